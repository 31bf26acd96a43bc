//! Within a text that stays: home folders, e-mail addresses, host names and secrets.

use super::{Edit, Filler, hash};

/// What stands before an account's name in a path.
const HOMES: [&str; 4] = ["/home/", "/Users/", "\\Users\\", "/home\\"];
/// How keys of providers and forges begin; at least [`SECRET_BYTES_MIN`] letters follow.
const SECRETS: [&str; 8] = ["sk-", "sk_", "ghp_", "gho_", "github_pat_", "xoxb-", "AKIA", "AIza"];
const SECRET_BYTES_MIN: usize = 16;

/// What is to be replaced.
pub(super) fn edits(text: &str, hosts: &[String]) -> Vec<Edit> {
    let mut edits = Vec::new();
    homes(text, &mut edits);
    emails(text, &mut edits);
    secrets(text, &mut edits);
    for host in hosts {
        for (at, _) in text.match_indices(host.as_str()) {
            if is_word(text, at, host.len()) {
                edits.push((at..at + host.len(), Filler::Letters(hash(host))));
            }
        }
    }
    edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let mut end = 0;
    edits.retain(|(range, _)| {
        let is_apart = range.start >= end;
        end = end.max(range.end);
        is_apart
    });
    edits
}

fn homes(text: &str, edits: &mut Vec<Edit>) {
    for home in HOMES {
        for (at, _) in text.match_indices(home) {
            let start = at + home.len();
            let name = text[start..].split(|c: char| !is_name(c)).next().unwrap_or_default();
            if !name.is_empty() {
                edits.push((start..start + name.len(), Filler::Letters(hash(name))));
            }
        }
    }
    for (at, _) in text.match_indices("/root") {
        let follows = text[at + 5..].bytes().next();
        let is_start = !text[..at]
            .bytes()
            .next_back()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'/');
        if is_start && follows.is_none_or(|byte| !byte.is_ascii_alphanumeric() && byte != b'_' && byte != b'-') {
            edits.push((at + 1..at + 5, Filler::Constant("home")));
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// `local@domain.tld`: the letters go, `@` and dots stay.
fn emails(text: &str, edits: &mut Vec<Edit>) {
    for (at, _) in text.match_indices('@') {
        let is_local = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '%');
        let is_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let start = text[..at]
            .char_indices()
            .rev()
            .take_while(|(_, c)| is_local(*c))
            .last()
            .map_or(at, |(start, _)| start);
        let domain = text[at + 1..]
            .split(|c: char| !is_domain(c))
            .next()
            .unwrap_or_default()
            .trim_end_matches(['.', '-']);
        let has_top = domain.rsplit_once('.').is_some_and(|(name, top)| {
            !name.is_empty() && top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_alphabetic())
        });
        if start < at && has_top {
            let range = start..at + 1 + domain.len();
            edits.push((range.clone(), Filler::Letters(hash(&text[range]))));
        }
    }
}

fn secrets(text: &str, edits: &mut Vec<Edit>) {
    for secret in SECRETS {
        for (at, _) in text.match_indices(secret) {
            let start = at + secret.len();
            let rest = text[start..]
                .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
                .next();
            let length = rest.map_or(0, str::len);
            let begins = !text[..at]
                .bytes()
                .next_back()
                .is_some_and(|byte| byte.is_ascii_alphanumeric());
            if begins && length >= SECRET_BYTES_MIN {
                edits.push((
                    start..start + length,
                    Filler::Letters(hash(&text[start..start + length])),
                ));
            }
        }
    }
}

/// True where the piece is not a part of a longer word.
fn is_word(text: &str, at: usize, length: usize) -> bool {
    let is_inside = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    !is_inside(text[..at].bytes().next_back()) && !is_inside(text[at + length..].bytes().next())
}
