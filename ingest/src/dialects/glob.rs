//! Patterns with `*`, as dialects' files write them: a star matches any text, also none, anywhere.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// The texts between the stars; one where there is no star.
    parts: Box<[Box<str>]>,
}

impl Glob {
    /// Compiles a pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self {
            parts: pattern.split('*').map(Box::from).collect(),
        }
    }

    /// True where the text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &*self.parts else {
            return self.parts.first().is_some_and(|only| **only == *text);
        };
        let Some(mut rest) = text.strip_prefix(&**first) else {
            return false;
        };
        for part in middle {
            match rest.find(&**part) {
                Some(start) => rest = &rest[start + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }

    /// What the single star of the pattern stands for in the text, trimmed; absent where it does not match,
    /// is blank, or there is not exactly one star.
    #[must_use]
    pub fn capture<'t>(&self, text: &'t str) -> Option<&'t str> {
        let [prefix, suffix] = &*self.parts else { return None };
        let inner = text.strip_prefix(&**prefix)?.strip_suffix(&**suffix)?.trim();
        (!inner.is_empty()).then_some(inner)
    }

    /// How many characters the pattern fixes: of two that match, the longer is the more specific.
    #[must_use]
    pub fn n_fixed(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_text() {
        for (pattern, text, expected) in [
            ("chat", "chat", true),
            ("chat", "chat gpt", false),
            ("chat*", "chat gpt", true),
            ("*", "", true),
            ("*.tool", "get_forecast.tool", true),
            ("*.tool", "get_forecast.tools", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("aba*aba", "aba", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_single_star_captures_what_it_stands_for() {
        let pattern = Glob::new("MCP send tools/call *");
        assert_eq!(
            pattern.capture("MCP send tools/call get_forecast"),
            Some("get_forecast")
        );
        assert_eq!(pattern.capture("MCP send tools/call "), None);
        assert_eq!(Glob::new("*.tool").capture("x.tool"), Some("x"));
        assert_eq!(Glob::new("a*b*").capture("axby"), None);
    }
}
