//! Prices of tools: what a call of an MCP tool costs in itself, apart from the tokens it causes.
//!
//! Of the prices that hold for a call the most specific one is charged: a tool named in full before a
//! pattern, a server named in full before a pattern before none, then the later `valid_from`, then the later
//! line. They do not add up. What a price needs and the call does not tell (its duration, the bytes of its
//! result) makes the call unpriced, never free.

use spanledger_model::FemtoUsd;

use super::catalogue::divide_half_even;
use super::matching::{MatchRule, lowercase};
use super::stated::{Source, StatedTool};
use super::validity::Validity;

const NS_PER_SECOND: i128 = 1_000_000_000;

/// The price of a tool's calls.
#[derive(Debug, Clone)]
pub struct ToolPrice {
    /// Stable, readable identity, `tools:websearch/search@2026-10-01`.
    pub id: String,
    /// File it was imported from.
    pub source: String,
    /// Server or pattern as written; without it any server, and built-in tools.
    pub server: Option<String>,
    /// Tool or pattern as written.
    pub tool: String,
    /// For a call.
    pub per_call: Option<FemtoUsd>,
    /// For a second of its duration.
    pub per_second: Option<FemtoUsd>,
    /// For a byte of its result.
    pub per_byte: Option<FemtoUsd>,
    /// True where a failed call costs nothing.
    pub errors_free: bool,
    /// When it holds.
    pub validity: Validity,
    server_rule: Option<MatchRule>,
    tool_rule: MatchRule,
}

impl ToolPrice {
    /// Compiles a stated price.
    pub(super) fn compile(stated: &StatedTool, source: &Source) -> Result<Self, String> {
        let validity = stated.time.validity()?;
        let amount = |text: &Option<String>| text.as_deref().and_then(FemtoUsd::parse);
        let server = stated.server.as_deref();
        Ok(Self {
            id: format!(
                "{}:{}/{}{}",
                source.name,
                server.unwrap_or("*"),
                stated.tool,
                validity.suffix()
            ),
            source: source.name.clone(),
            server: stated.server.clone(),
            tool: stated.tool.clone(),
            per_call: amount(&stated.per_call),
            per_second: amount(&stated.per_second),
            per_byte: amount(&stated.per_byte),
            errors_free: stated.errors_free,
            validity,
            server_rule: server.map(MatchRule::of_name),
            tool_rule: MatchRule::of_name(&stated.tool),
        })
    }

    /// The cost of a call, or `None` where it does not tell what the price is by. Rounded half to even to a
    /// femto-USD, once, in the part that is by the second.
    #[must_use]
    pub fn cost(&self, duration_ns: Option<i64>, result_bytes: Option<i64>) -> Option<FemtoUsd> {
        let by_second = match self.per_second {
            Some(rate) => {
                let product = rate.0.checked_mul(i128::from(duration_ns?.max(0)))?;
                divide_half_even(product, NS_PER_SECOND)
            }
            None => 0,
        };
        let by_byte = match self.per_byte {
            Some(rate) => rate.0.checked_mul(i128::from(result_bytes?.max(0)))?,
            None => 0,
        };
        let by_call = self.per_call.unwrap_or_default().0;
        by_call.checked_add(by_second)?.checked_add(by_byte).map(FemtoUsd)
    }

    fn holds(&self, server: Option<&str>, tool: &str, at_ns: i64) -> bool {
        self.validity.holds_at(at_ns)
            && self.tool_rule.matches(tool)
            && self
                .server_rule
                .as_ref()
                .is_none_or(|rule| server.is_some_and(|server| rule.matches(server)))
    }

    fn specificity(&self) -> (bool, u8, i64) {
        let is_exact = |rule: &MatchRule| matches!(rule, MatchRule::Equals(_));
        let server = self.server_rule.as_ref().map_or(0, |rule| 1 + u8::from(is_exact(rule)));
        (
            is_exact(&self.tool_rule),
            server,
            self.validity.from_ns.unwrap_or(i64::MIN),
        )
    }
}

/// The price that holds for a call of a tool.
pub(super) fn find<'a>(prices: &'a [ToolPrice], server: Option<&str>, tool: &str, at_ns: i64) -> Option<&'a ToolPrice> {
    let (server, tool) = (server.map(lowercase), lowercase(tool));
    prices
        .iter()
        .filter(|price| price.holds(server.as_deref(), &tool, at_ns))
        .max_by_key(|price| price.specificity())
}
