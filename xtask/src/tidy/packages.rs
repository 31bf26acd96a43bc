//! What we link: one version of each heavy crate, and only licences that `deny.toml` allows.
//!
//! The licence check evaluates the SPDX expression of every package in `cargo metadata` against the list in
//! `deny.toml`, so that CI needs no `cargo-deny` (its build takes longer than ours; its advisory database
//! cannot be fetched on a closed network). `cargo deny check` reads the same file where it is installed.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Crates that cost minutes to build and whose types cross our crates: two versions would not even fit.
const ONE_VERSION: [&str; 5] = ["arrow", "arrow-array", "datafusion", "object_store", "parquet"];

/// Checks the lock file for a second version of a heavy crate.
pub fn check_lock(lock: &str, offences: &mut Vec<String>) -> Result<()> {
    let lock: toml::Table = lock.parse().context("Cargo.lock is not TOML")?;
    let packages = lock
        .get("package")
        .and_then(toml::Value::as_array)
        .context("Cargo.lock lists no packages")?;
    for name in ONE_VERSION {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|package| package.get("name").and_then(toml::Value::as_str) == Some(name))
            .filter_map(|package| package.get("version").and_then(toml::Value::as_str))
            .collect();
        if versions.len() != 1 {
            offences.push(format!(
                "Cargo.lock: {name} in {} versions {versions:?}, not in one",
                versions.len()
            ));
        }
    }
    Ok(())
}

/// Checks the licence of every package that is not ours.
pub fn check_licences(metadata: &Value, deny: &str, offences: &mut Vec<String>) -> Result<()> {
    let deny: toml::Table = deny.parse().context("deny.toml is not TOML")?;
    let licences = deny.get("licenses").context("deny.toml has no [licenses]")?;
    let allowed: Vec<&str> = strings(licences.get("allow"));
    let exceptions = licences.get("exceptions").and_then(toml::Value::as_array);
    for package in metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?
    {
        let name = package["name"].as_str().unwrap_or_default();
        let exception = exceptions
            .into_iter()
            .flatten()
            .find(|exception| exception.get("crate").and_then(toml::Value::as_str) == Some(name));
        let mut of_this = allowed.clone();
        of_this.extend(strings(exception.and_then(|exception| exception.get("allow"))));
        match package["license"].as_str() {
            Some(expression) if is_allowed(expression, &of_this) => {}
            Some(expression) => {
                offences.push(format!(
                    "{name}: licence `{expression}` is not on the list of deny.toml"
                ));
            }
            None => offences.push(format!("{name}: names no licence")),
        }
    }
    Ok(())
}

fn strings(value: Option<&toml::Value>) -> Vec<&str> {
    value
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect()
}

/// Evaluates an SPDX expression (`OR` binds weaker than `AND`; `/` is the old spelling of `OR`).
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let verdict = any_of(&mut rest, allowed);
    verdict == Some(true) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut verdict = all_of(rest, allowed)?;
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        verdict |= all_of(rest, allowed)?;
    }
    Some(verdict)
}

fn all_of(rest: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut verdict = one(rest, allowed)?;
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        verdict &= one(rest, allowed)?;
    }
    Some(verdict)
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let verdict = any_of(rest, allowed)?;
            let [")", tail @ ..] = *rest else { return None };
            *rest = tail;
            Some(verdict)
        }
        [licence, "WITH", exception, tail @ ..] => {
            *rest = tail;
            Some(allowed.contains(&format!("{licence} WITH {exception}").as_str()))
        }
        [licence, tail @ ..] => {
            *rest = tail;
            Some(allowed.contains(licence))
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spdx_expressions_are_evaluated() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
        let check = |expression: &str, expected: bool| {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        };
        check("MIT", true);
        check("GPL-3.0-only", false);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0-only OR MIT", true);
        check("GPL-3.0-only AND MIT", false);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("MIT OR Apache-2.0 AND GPL-3.0-only", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("GPL-2.0 WITH Classpath-exception-2.0", false);
        check("(MIT", false);
    }

    #[test]
    fn a_second_version_of_a_heavy_crate_is_an_offence() {
        let entry = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        let one_of_each: String = ONE_VERSION.iter().map(|name| entry(name, "1.0.0")).collect();
        let offences_in = |lock: &str| {
            let mut offences = Vec::new();
            assert!(check_lock(lock, &mut offences).is_ok());
            offences.len()
        };
        assert_eq!(offences_in(&one_of_each), 0);
        assert_eq!(offences_in(&(one_of_each.clone() + &entry("parquet", "2.0.0"))), 1);
    }
}
