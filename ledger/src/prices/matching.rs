//! Which names a model or provider is known by.
//!
//! The rules and their order are those of genai-prices (`matching.rs` of its crate, MIT): a name is
//! compared in lowercase, the first model whose rule matches wins, and a compact date such as
//! `-20251211` is tried again as `-2025-12-11`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};
use spanledger_model::{Pattern, Wildcards};

use super::json::Json;

/// Compiled size allowed for a pattern, so that a hostile price file cannot exhaust memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A rule over a lowercase name.
#[derive(Debug, Clone)]
pub enum MatchRule {
    /// Every rule matches.
    All(Vec<MatchRule>),
    /// At least one matches.
    Any(Vec<MatchRule>),
    /// The name holds this text.
    Contains(String),
    /// The name ends so.
    EndsWith(String),
    /// The name is this.
    Equals(String),
    /// The name fits this pattern, in which `*` stands for any text and `?` for one byte.
    Pattern(Pattern),
    /// An expression is found and the refused one, a lookahead at the start, is not.
    Regex {
        /// What must be found.
        wanted: Regex,
        /// What must not.
        refused: Option<Regex>,
    },
    /// The name starts so.
    StartsWith(String),
}

impl MatchRule {
    /// Reads a rule, `{"or": [{"equals": "gpt-5"}, {"starts_with": "gpt-5-2025"}]}`.
    pub(super) fn import(json: &Json<'_>) -> Result<Self, String> {
        let [(operation, argument)] = json.fields() else {
            return Err("a match rule must hold exactly one operation".to_owned());
        };
        let rules = || -> Result<Vec<Self>, String> {
            let rules = argument
                .items()
                .iter()
                .map(Self::import)
                .collect::<Result<Vec<_>, _>>()?;
            if rules.is_empty() {
                Err(format!("match rule {operation:?} is empty"))
            } else {
                Ok(rules)
            }
        };
        let text = || {
            argument
                .text()
                .ok_or_else(|| format!("match rule {operation:?} needs a text"))
        };
        let literal = || text().map(str::to_lowercase);
        Ok(match operation.as_ref() {
            "and" => Self::All(rules()?),
            "or" => Self::Any(rules()?),
            "contains" => Self::Contains(literal()?),
            "ends_with" => Self::EndsWith(literal()?),
            "equals" => Self::Equals(literal()?),
            "starts_with" => Self::StartsWith(literal()?),
            "regex" => Self::regex(text()?)?,
            _ => return Err(format!("unknown match operation {operation:?}")),
        })
    }

    /// The rule of a name that somebody wrote: itself, or a pattern where it has `*` or `?`.
    pub(super) fn of_name(name: &str) -> Self {
        let name = name.trim().to_lowercase();
        if name.contains(['*', '?']) {
            Self::Pattern(Pattern::with(&name, Wildcards::StarAndMark))
        } else {
            Self::Equals(name)
        }
    }

    /// True where the lowercase `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.matches(name)),
            Self::Any(rules) => rules.iter().any(|rule| rule.matches(name)),
            Self::Contains(text) => name.contains(text.as_str()),
            Self::EndsWith(text) => name.ends_with(text.as_str()),
            Self::Equals(text) => name == text,
            Self::Pattern(pattern) => pattern.matches(name),
            Self::StartsWith(text) => name.starts_with(text.as_str()),
            Self::Regex { wanted, refused } => {
                wanted.is_match(name.as_bytes())
                    && !refused
                        .as_ref()
                        .is_some_and(|refused| refused.is_match(name.as_bytes()))
            }
        }
    }

    /// The `regex` crate has no lookaround. The only kind the catalogue uses, `^(?!refused)rest`, is the
    /// same as finding `^rest` and not `^refused`; any other is refused by the compiler.
    fn regex(pattern: &str) -> Result<Self, String> {
        let Some(tail) = pattern.strip_prefix("^(?!") else {
            return Ok(Self::Regex {
                wanted: compile(pattern)?,
                refused: None,
            });
        };
        let end = closing_parenthesis(tail).ok_or_else(|| format!("unbalanced pattern {pattern:?}"))?;
        let refused = compile(&format!("^(?:{})", &tail[..end]))?;
        Ok(Self::Regex {
            wanted: compile(&format!("^{}", &tail[end + 1..]))?,
            refused: Some(refused),
        })
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("pattern {pattern:?}: {error}"))
}

/// The place of the `)` that closes a group whose `(` was read.
fn closing_parenthesis(text: &str) -> Option<usize> {
    let (mut depth, mut in_class, mut escaped) = (1, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class => depth += 1,
            b')' if !in_class => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `text` in lowercase, borrowed where it is already.
pub(super) fn lowercase(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| !byte.is_ascii() || byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

static COMPACT_DATE: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile("-20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])").ok());

/// `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`; `None` where no date stands in it. A number that is no
/// day of the calendar is left alone.
pub(super) fn expand_compact_date(name: &str) -> Option<String> {
    let mut expanded = String::new();
    let mut copied = 0;
    for found in COMPACT_DATE.as_ref()?.find_iter(name.as_bytes()) {
        let date = found.start() + 1;
        let [year, month, day] = [date..date + 4, date + 4..date + 6, date + 6..date + 8].map(|part| &name[part]);
        let dashed = format!("{year}-{month}-{day}");
        let ends = matches!(name.as_bytes().get(found.end()), None | Some(b'-' | b':'));
        if ends && dashed.parse::<chrono::NaiveDate>().is_ok() {
            expanded.push_str(&name[copied..date]);
            expanded.push_str(&dashed);
            copied = found.end();
        }
    }
    expanded.push_str(&name[copied..]);
    (copied > 0).then_some(expanded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rule(json: &str) -> MatchRule {
        MatchRule::import(&Json::parse(json).unwrap()).unwrap()
    }

    #[test]
    fn rules_match_in_lowercase() {
        let any = rule(r#"{"or": [{"equals": "GLM-5"}, {"and": [{"starts_with": "gpt-"}, {"ends_with": "-MINI"}]}]}"#);
        for (name, expected) in [
            ("glm-5", true),
            ("glm-5.1", false),
            ("gpt-5-mini", true),
            ("gpt-5", false),
        ] {
            assert_eq!(any.matches(name), expected, "{name}");
        }
    }

    #[test]
    fn a_leading_lookahead_is_understood() {
        let not_speech = rule(r#"{"regex": "^(?!.*-[tT][tT][sS](?:$|-))"}"#);
        for (name, expected) in [
            ("gemini-2.5-flash", true),
            ("gemini-2.5-flash-tts", false),
            ("gemini-tts-x", false),
        ] {
            assert_eq!(not_speech.matches(name), expected, "{name}");
        }
        let mistral = rule(r#"{"regex": "^(?![^/]+/)(?:labs-)?(?:(?:mi|code)stral|mixtral)"}"#);
        for (name, expected) in [
            ("mistral-large", true),
            ("labs-codestral", true),
            ("x/mistral", false),
            ("gpt", false),
        ] {
            assert_eq!(mistral.matches(name), expected, "{name}");
        }
    }

    #[test]
    fn a_written_name_with_a_star_or_a_mark_is_a_pattern() {
        for (written, name, expected) in [
            ("Claude-*", "claude-sonnet-4-5", true),
            ("claude-*-4-5", "claude-sonnet-4-5-20250929", false),
            ("gpt-?", "gpt-5", true),
            ("gpt-?", "gpt-5.1", false),
            (" GPT-5 ", "gpt-5", true),
            ("", "x", false),
        ] {
            assert_eq!(MatchRule::of_name(written).matches(name), expected, "{written} {name}");
        }
    }

    #[test]
    fn bad_rules_are_refused() {
        for json in [
            "{}",
            r#"{"or": []}"#,
            r#"{"equals": 1}"#,
            r#"{"like": "a"}"#,
            r#"{"equals": "a", "contains": "b"}"#,
            r#"{"regex": "("}"#,
            r#"{"regex": "a(?=b)"}"#,
            r#"{"regex": "^(?!a"}"#,
        ] {
            assert!(MatchRule::import(&Json::parse(json).unwrap()).is_err(), "{json}");
        }
    }

    #[test]
    fn compact_dates_are_expanded() {
        for (name, expected) in [
            ("gpt-5.2-20251211", Some("gpt-5.2-2025-12-11")),
            ("model-20251211:free", Some("model-2025-12-11:free")),
            ("a-20251211-20240229", Some("a-2025-12-11-2024-02-29")),
            ("model-20250230", None),
            ("model-202512110", None),
            ("model", None),
        ] {
            assert_eq!(expand_compact_date(name).as_deref(), expected, "{name}");
        }
    }
}
