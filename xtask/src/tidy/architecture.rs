//! The invariants of ARCHITECTURE.md as text: who may name what, and which way dependencies point.
//!
//! A text check is crude and cheap: it reads words outside comments, so a crate cannot slip past it with an
//! alias of the same word. What it cannot see, review must.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::File;

/// Words that only some folders may contain.
struct Rule {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

/// Test code builds what production code may not: requests to send, files to compare.
const TEST_FOLDERS: [&str; 4] = ["testkit/", "tests/", "benches/", "xtask/"];

const RULES: [Rule; 6] = [
    Rule {
        words: &["opentelemetry_proto"],
        allowed: &["ingest/", "tap/"],
        why: "only `ingest` (and `tap`, as a sender) knows OTLP protobuf",
    },
    Rule {
        words: &["PutMode", "PutPayload", "put_opts(", "put_multipart"],
        allowed: &["lake/"],
        why: "only `lake` writes objects",
    },
    Rule {
        words: &["ArrowWriter"],
        // the result of a query as a Parquet download: bytes to a caller, never to the lake
        allowed: &["lake/", "query/src/format"],
        why: "only `lake` writes Parquet files",
    },
    Rule {
        words: &["datafusion"],
        allowed: &["query/"],
        why: "only `query` plans SQL",
    },
    Rule {
        words: &["rmcp"],
        allowed: &["mcp-server/"],
        why: "only `mcp-server` knows MCP messages",
    },
    Rule {
        words: &["TenantId::from_credential"],
        // `lake` reads a tenant back from the rows and paths it wrote
        allowed: &["access/", "lake/", "model/src/ids"],
        why: "a tenant comes from a credential, so only `access` makes a `TenantId`",
    },
];

/// Folders where money is computed: no float there.
const MONEY: [&str; 1] = ["ledger/src/"];

/// Layers, lowest first: a package depends on lower layers only.
const LAYERS: [&[&str]; 7] = [
    &["spanledger-model", "spanledger-state"],
    &["spanledger-access"],
    &["spanledger-lake"],
    &["spanledger-ledger"],
    &["spanledger-ingest", "spanledger-query"],
    &["spanledger-mcp-server", "spanledger-dashboards"],
    &["spanledger"],
];

/// Checks the words of every Rust file.
pub fn check_files(files: &[File], offences: &mut Vec<String>) {
    for file in files {
        let starts_with = |folder: &&str| file.path.starts_with(*folder);
        if TEST_FOLDERS.iter().any(starts_with) || file.path.ends_with("/tests.rs") || file.path.contains("/tests/") {
            continue;
        }
        for (line_idx, line) in production_lines(&file.text) {
            for rule in RULES.iter().filter(|rule| !rule.allowed.iter().any(starts_with)) {
                if let Some(word) = rule.words.iter().find(|word| line.contains(*word)) {
                    offences.push(format!("{}:{line_idx}: `{word}`: {}", file.path, rule.why));
                }
            }
            if MONEY.iter().any(starts_with) && (has_word(line, "f64") || has_word(line, "f32")) {
                offences.push(format!(
                    "{}:{line_idx}: a float where money is computed: use `FemtoUsd`",
                    file.path
                ));
            }
        }
    }
}

/// Checks that every package of the workspace depends on lower layers only (tests aside).
pub fn check_dependencies(metadata: &Value, offences: &mut Vec<String>) -> Result<()> {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for package in metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?
    {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(own) = layer(name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if !for_tests && layer(on).is_some_and(|other| other >= own) {
                offences.push(format!(
                    "{name} depends on {on}: dependencies point from {own} downwards in {LAYERS:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Numbered lines of code before the tests at the end of a file, comments left out.
fn production_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| line.trim_end() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offences_of(path: &str, text: &str) -> Vec<String> {
        let mut offences = Vec::new();
        check_files(
            &[File {
                path: path.to_owned(),
                text: text.to_owned(),
            }],
            &mut offences,
        );
        offences
    }

    #[test]
    fn a_word_in_the_wrong_folder_is_an_offence() {
        let check = |path: &str, text: &str, expected: usize| {
            let offences = offences_of(path, text);
            assert_eq!(offences.len(), expected, "{path} {text:?}: {offences:?}");
        };
        check("query/src/engine.rs", "use datafusion::prelude::*;", 0);
        check("lake/src/lib.rs", "use datafusion::prelude::*;", 1);
        check("lake/src/lib.rs", "// datafusion plans elsewhere", 0);
        check(
            "lake/src/lib.rs",
            "//! text\n#[cfg(test)]\nmod tests { use datafusion::x; }",
            0,
        );
        check("src/serve.rs", "let tenant = TenantId::from_credential(name);", 1);
        check("access/src/lib.rs", "let tenant = TenantId::from_credential(name);", 0);
        check("ledger/src/rating.rs", "fn cost() -> f64 {", 1);
        check("ledger/src/rating.rs", "fn cost_f64_free() {", 0);
        check("tests/prices.rs", "use opentelemetry_proto::tonic;", 0);
    }

    #[test]
    fn a_dependency_on_a_higher_layer_is_an_offence() {
        let metadata = serde_json::json!({"packages": [
            {"name": "spanledger-lake", "dependencies": [{"name": "spanledger-query", "kind": null}]},
            {"name": "spanledger-query", "dependencies": [
                {"name": "spanledger-lake", "kind": null}, {"name": "spanledger-ingest", "kind": "dev"}]},
        ]});
        let mut offences = Vec::new();
        assert!(check_dependencies(&metadata, &mut offences).is_ok());
        assert_eq!(offences.len(), 1, "{offences:?}");
        assert!(offences[0].starts_with("spanledger-lake depends on spanledger-query"));
    }
}
