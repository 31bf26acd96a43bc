//! Patterns over names, as dialects' files, prices and rules write them: `*` stands for any text, also none.
//!
//! One matcher for everybody. In a dialect's file `?` is a letter like any other; a price's or model's name may
//! write it for one byte. Letters are compared as they are: who wants them alike in either case folds both.
//! Patterns are not regular expressions: matching needs no memory, and its time is at most the product of both
//! lengths, whatever is written.

/// The signs of a pattern that stand for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wildcards {
    /// `*`, any text.
    Star,
    /// `*`, any text, and `?`, one byte.
    StarAndMark,
}

/// A pattern, owned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    wildcards: Wildcards,
}

impl Pattern {
    /// A pattern in which `*` stands for any text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self::with(text, Wildcards::Star)
    }

    /// A pattern with these wildcards.
    #[must_use]
    pub fn with(text: &str, wildcards: Wildcards) -> Self {
        Self {
            text: Box::from(text),
            wildcards,
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True where the text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        fits(&self.text, text, self.wildcards)
    }

    /// What the single star of the pattern stands for in the text, trimmed; absent where it does not match,
    /// is blank, or there is not exactly one star.
    #[must_use]
    pub fn capture<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (prefix, suffix) = self.text.split_once('*')?;
        if suffix.contains('*') {
            return None;
        }
        let inner = text.strip_prefix(prefix)?.strip_suffix(suffix)?.trim();
        (!inner.is_empty()).then_some(inner)
    }

    /// How many bytes the pattern fixes: of two that match, the longer is the more specific.
    #[must_use]
    pub fn n_fixed(&self) -> usize {
        let is_wild = |byte: &u8| *byte == b'*' || (*byte == b'?' && self.wildcards == Wildcards::StarAndMark);
        self.text.bytes().filter(|byte| !is_wild(byte)).count()
    }
}

/// True where `text` fits a pattern.
#[must_use]
pub fn fits(pattern: &str, text: &str, wildcards: Wildcards) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where the last star was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(byte) if *byte == text[at_text] || (*byte == b'?' && wildcards == Wildcards::StarAndMark) => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at_pattern = star_at + 1;
                at_text = taken + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
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
            ("*", "any", true),
            ("*.tool", "get_forecast.tool", true),
            ("*.tool", "get_forecast.tools", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*c", "abbbxc", true),
            ("aba*aba", "aba", false),
            ("claude-*", "claude-sonnet-4-5", true),
            ("claude-*-4-5", "claude-sonnet-4-5-20250929", false),
            ("*sonnet*", "us.anthropic.claude-sonnet-4-5", true),
            ("caf*", "café", true),
            ("*\u{e9}", "café", true),
            ("", "", true),
            ("", "x", false),
        ] {
            for wildcards in [Wildcards::Star, Wildcards::StarAndMark] {
                assert_eq!(fits(pattern, text, wildcards), expected, "{pattern} {text}");
            }
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_mark_is_one_byte_only_where_it_is_a_wildcard() {
        for (pattern, text, with_marks, with_stars) in [
            ("gpt-?", "gpt-5", true, false),
            ("gpt-?", "gpt-5.1", false, false),
            ("gpt-?", "gpt-?", true, true),
            ("what?*", "what? now", true, true),
        ] {
            assert_eq!(
                fits(pattern, text, Wildcards::StarAndMark),
                with_marks,
                "{pattern} {text}"
            );
            assert_eq!(fits(pattern, text, Wildcards::Star), with_stars, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let (hostile, long) = (format!("{}b", "a*".repeat(100)), "a".repeat(10_000));
        assert!(!fits(&hostile, &long, Wildcards::Star));
    }

    #[test]
    fn a_single_star_captures_what_it_stands_for() {
        let pattern = Pattern::new("MCP send tools/call *");
        assert_eq!(
            pattern.capture("MCP send tools/call get_forecast"),
            Some("get_forecast")
        );
        assert_eq!(pattern.capture("MCP send tools/call "), None);
        assert_eq!(Pattern::new("*.tool").capture("x.tool"), Some("x"));
        assert_eq!(Pattern::new("a*b*").capture("axby"), None);
        assert_eq!(Pattern::new("chat").capture("chat"), None);
        assert_eq!(Pattern::new("aba*aba").capture("aba"), None);
    }

    #[test]
    fn the_more_specific_pattern_fixes_more() {
        assert_eq!(Pattern::new("a*b?*").n_fixed(), 3);
        assert_eq!(Pattern::with("a*b?*", Wildcards::StarAndMark).n_fixed(), 2);
    }
}
