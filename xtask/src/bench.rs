//! `cargo xtask bench`: the short form of the benchmarks in `benches/`, on a release build.
//!
//! Prints figures and their ratio to a limit measured in the same run; asserts nothing, for machines vary.

use anyhow::Result;

use crate::command::{self, cargo};

/// Builds the release binary and runs `benches/ledger.rs`, then `benches/ingest.rs` with `arguments`.
pub fn run(arguments: &[String]) -> Result<()> {
    command::run(cargo().args(["build", "--release", "--locked", "--package", "spanledger"]))?;
    command::run(cargo().args([
        "bench",
        "--locked",
        "--package",
        "spanledger-ledger",
        "--bench",
        "ledger",
    ]))?;
    command::run(
        cargo()
            .args([
                "bench",
                "--locked",
                "--package",
                "spanledger",
                "--bench",
                "ingest",
                "--",
            ])
            .args(arguments),
    )
}
