//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! Each check reads the tracked (and not yet tracked, but not ignored) files or `cargo metadata` and adds one
//! line per offence; all checks run before the verdict, so that one run shows everything.
//!
//! | module | rule |
//! |---|---|
//! | [`modules`] | a `//!` header on every module, at most 800 lines, nothing left unfinished |
//! | [`architecture`] | who may touch what, and which way dependencies point |
//! | [`packages`] | one version of each heavy crate, licences on the allow-list of `deny.toml` |
//! | [`links`] | every relative link of a document leads somewhere |

mod architecture;
mod links;
mod modules;
mod packages;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, in_root, output, root};

/// A file of the work tree.
pub struct File {
    /// Path relative to the root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Runs every check.
pub fn run() -> Result<()> {
    let rust = files(&["*.rs"])?;
    let documents = files(&["*.md"])?;
    let metadata = metadata()?;
    let mut offences = Vec::new();
    modules::check(&rust, &mut offences);
    architecture::check_files(&rust, &mut offences);
    architecture::check_dependencies(&metadata, &mut offences)?;
    packages::check_lock(&fs::read_to_string(root().join("Cargo.lock"))?, &mut offences)?;
    packages::check_licences(&metadata, &fs::read_to_string(root().join("deny.toml"))?, &mut offences)?;
    links::check(&documents, |path| root().join(path).exists(), &mut offences);
    if offences.is_empty() {
        println!(
            "tidy: {} Rust files, {} documents, all in order",
            rust.len(),
            documents.len()
        );
        return Ok(());
    }
    for offence in &offences {
        eprintln!("tidy: {offence}");
    }
    bail!("{} offence(s), listed above", offences.len())
}

/// The files of the work tree that match, ignored ones left out.
fn files(patterns: &[&str]) -> Result<Vec<File>> {
    let listed = output(
        in_root("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"])
            .args(patterns),
    )?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let full: PathBuf = root().join(path);
        // a file that is deleted but not yet committed is still listed
        if full.exists() {
            let text = fs::read_to_string(&full).with_context(|| format!("could not read {path}"))?;
            files.push(File {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}

fn metadata() -> Result<serde_json::Value> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).context("cargo metadata printed something that is not JSON")
}
