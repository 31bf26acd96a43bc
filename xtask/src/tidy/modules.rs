//! What every Rust file has (a header), and what it must not have (800 lines, loose ends).

use super::File;

/// More than this and a newcomer no longer knows which room to enter.
const LINES_MAX: usize = 800;

/// What no committed code contains: each is work left to somebody else. Split, so that this file is clean.
const UNFINISHED: [&str; 6] = [
    concat!("tod", "o!("),
    concat!("unimplement", "ed!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ign", "ore"),
];

/// Checks every file.
pub fn check(files: &[File], offences: &mut Vec<String>) {
    for file in files {
        if !file.text.trim_start().starts_with("//!") {
            offences.push(format!(
                "{}: no `//!` header that says what the module is for",
                file.path
            ));
        }
        let n_lines = file.text.lines().count();
        if n_lines > LINES_MAX {
            offences.push(format!(
                "{}: {n_lines} lines, more than {LINES_MAX}; split it",
                file.path
            ));
        }
        for (line_idx, line) in file.text.lines().enumerate() {
            if let Some(found) = UNFINISHED.iter().find(|word| line.contains(*word)) {
                offences.push(format!("{}:{}: `{found}` is left in", file.path, line_idx + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_of_a_module_is_an_offence_of_its_own() {
        let check = |text: &str, expected: usize| {
            let mut offences = Vec::new();
            check(
                &[File {
                    path: "a.rs".to_owned(),
                    text: text.to_owned(),
                }],
                &mut offences,
            );
            assert_eq!(offences.len(), expected, "{offences:?}");
        };
        check("//! Header.\nfn a() {}\n", 0);
        check("fn a() {}\n", 1);
        check(&format!("//! Header.\n{}", "// line\n".repeat(LINES_MAX)), 1);
        check(&format!("//! Header.\nfn a() {{ {}) }}\n", UNFINISHED[0]), 1);
    }
}
