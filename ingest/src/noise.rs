//! Noise: raw spans that say nothing about an operation, of emitters that send over a thousand a turn.
//!
//! Sits in normalisation, after a dialect has read the span: what gives an observation is always stored, so calls
//! and ledger do not depend on these rules. What no dialect recognises is looked up here, and stored for a share
//! of the traces only. The choice is a hash of the trace id: a trace is kept or thinned as one, by every node and
//! in every replay under the same rules. What is left out was accepted, and is counted by rule.
//!
//! Rules are data: the built-in ones are `ingest/noise.toml`, users' own (`[[noise]]` in spanledger.toml) are
//! asked first. Logs, metrics and payloads of spans that are stored are not touched.

use std::sync::{Arc, OnceLock};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde::Deserialize;
use spanledger_model::Pattern;
use spanledger_model::ids::hash_parts;

use crate::error::{Error, Result};

/// Rules of a configuration: each is asked for every scope of every request.
pub const RULES_MAX: usize = 64;
/// Bytes of a rule's name: it is a label of a metric.
pub const RULE_NAME_BYTES_MAX: usize = 64;
/// Attributes by these conventions tell of an operation, whether or not a dialect reads the span today.
const FACT_PREFIXES: [&str; 5] = ["gen_ai.", "mcp.", "llm.", "ai.", "openinference."];
const BUILTIN: &str = include_str!("../noise.toml");

/// One rule, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseRule {
    /// The name it is counted under.
    pub rule: String,
    /// Pattern of `service.name`; absent: any.
    pub service: Option<String>,
    /// Pattern of the instrumentation scope's name; absent: any.
    pub scope: Option<String>,
    /// Pattern of the span's name; absent: any.
    pub span: Option<String>,
    /// Only spans that took less, milliseconds; absent: any.
    pub shorter_than_ms: Option<u64>,
    /// Share of the traces whose spans are stored, 0 to 1.
    pub keep: f64,
    /// Whether spans with status error are stored in any case; absent: they are.
    pub keep_errors: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoiseFile {
    noise: Vec<NoiseRule>,
}

#[derive(Debug, PartialEq, Eq)]
struct Compiled {
    rule: Arc<str>,
    service: Option<Pattern>,
    scope: Option<Pattern>,
    span: Option<Pattern>,
    shorter_than_ns: i64,
    /// Traces whose hash is below it are kept.
    keep_below: u128,
    keep_errors: bool,
}

/// The rules in force, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoiseRules {
    rules: Arc<[Compiled]>,
}

impl Default for NoiseRules {
    /// The built-in rules.
    fn default() -> Self {
        static RULES: OnceLock<NoiseRules> = OnceLock::new();
        RULES
            .get_or_init(|| Self::compile(builtin()).unwrap_or_else(|_| Self::none()))
            .clone()
    }
}

/// The built-in rules as written. A test reads the file: it cannot be unreadable in a build that passed.
fn builtin() -> Vec<NoiseRule> {
    toml::from_str::<NoiseFile>(BUILTIN).map_or_else(|_| Vec::new(), |file| file.noise)
}

impl NoiseRules {
    /// No rules: every span is stored.
    #[must_use]
    pub fn none() -> Self {
        Self { rules: Arc::new([]) }
    }

    /// A user's rules, then the built-in ones.
    ///
    /// # Errors
    /// Invalid, naming the rule and what to change.
    pub fn with(rules: &[NoiseRule]) -> Result<Self> {
        if rules.len() > RULES_MAX {
            return Err(Error::invalid(format!(
                "{} noise rules are over {RULES_MAX}: use patterns that cover several emitters",
                rules.len()
            )));
        }
        let mut rules = rules.to_vec();
        rules.extend(builtin());
        Self::compile(rules)
    }

    fn compile(rules: Vec<NoiseRule>) -> Result<Self> {
        let rules: Vec<Compiled> = rules.into_iter().map(Compiled::new).collect::<Result<_>>()?;
        Ok(Self { rules: rules.into() })
    }

    /// The rules that may be about spans of a service in a scope.
    #[must_use]
    pub fn of_scope(&self, service: Option<&str>, scope: &str) -> ScopeNoise<'_> {
        let is_about = |rule: &&Compiled| {
            matches(rule.service.as_ref(), service.unwrap_or_default()) && matches(rule.scope.as_ref(), scope)
        };
        ScopeNoise {
            rules: self.rules.iter().filter(is_about).collect(),
        }
    }
}

impl Compiled {
    fn new(rule: NoiseRule) -> Result<Self> {
        if rule.rule.is_empty() || rule.rule.len() > RULE_NAME_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a noise rule's name has 1 to {RULE_NAME_BYTES_MAX} bytes: set `rule` to what /metrics is to count it under"
            )));
        }
        if !(0.0..=1.0).contains(&rule.keep) {
            return Err(Error::invalid(format!(
                "noise rule {}: keep = {} is no share: use 0.0 to 1.0",
                rule.rule, rule.keep
            )));
        }
        let glob = |pattern: Option<String>| pattern.as_deref().filter(|pattern| *pattern != "*").map(Pattern::new);
        let shorter_than_ns = rule.shorter_than_ms.map_or(i64::MAX, |limit_ms| {
            i64::try_from(limit_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
        });
        Ok(Self {
            rule: Arc::from(rule.rule),
            service: glob(rule.service),
            scope: glob(rule.scope),
            span: glob(rule.span),
            shorter_than_ns,
            // A share of 1 is 2^64 and above every hash; the cast of a number from 0 to 2^64 is exact enough.
            keep_below: (rule.keep * 2f64.powi(64)) as u128,
            keep_errors: rule.keep_errors.unwrap_or(true),
        })
    }

    fn keeps(&self, span: &Span) -> bool {
        let is_error = || {
            let code = span.status.as_ref().map(|status| status.code);
            code == Some(StatusCode::Error as i32)
        };
        let is_fact = |key: &str| FACT_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
        hash_of(&span.trace_id) < self.keep_below
            || (self.keep_errors && is_error())
            || span.attributes.iter().any(|attribute| is_fact(&attribute.key))
    }
}

/// The rules about one scope of a request.
#[derive(Debug)]
pub struct ScopeNoise<'r> {
    rules: Vec<&'r Compiled>,
}

impl<'r> ScopeNoise<'r> {
    /// The rule that leaves the span out; `None` where it is stored. Only for spans without an observation.
    #[must_use]
    pub fn left_out(&self, span: &Span, duration_ns: i64) -> Option<&'r Arc<str>> {
        let is_about =
            |rule: &&&Compiled| duration_ns < rule.shorter_than_ns && matches(rule.span.as_ref(), &span.name);
        let rule = self.rules.iter().find(is_about)?;
        (!rule.keeps(span)).then_some(&rule.rule)
    }
}

fn matches(pattern: Option<&Pattern>, text: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.matches(text))
}

/// A number from 0 to 2^64 that depends on the trace only.
fn hash_of(trace_id: &[u8]) -> u128 {
    let hash = u128::from_be_bytes(hash_parts(&[b"noise", trace_id]));
    hash >> 64
}

#[cfg(test)]
mod tests;
