//! What the tests stand on: real captures with known truth, OTLP requests made from data, a server harness
//! that starts, kills and restarts the built binary, and the real peers that talk to it.
//!
//! A dev-dependency only. It knows the product from outside: command line, ports, wire formats. It shares no
//! code with it, so that a mistake in the product is not repeated in its test.
//!
//! | module | what it holds |
//! |---|---|
//! | [`captures`] | genuine OTLP requests of real emitters, and the totals they must come to |
//! | [`grpc`] | exports over OTLP gRPC, plain and compressed |
//! | [`otlp`] | requests built from data, re-encodings of the same content, gzip |
//! | [`records`] | requests taken apart into records, and put together otherwise |
//! | [`server`] | one running server on a folder of its own |
//! | [`simulator`] | agent sessions with the truth of who caused every token |
//! | [`tools`] | Python, Node.js and Chromium as `cargo xtask setup` installed them |
//! | [`random`] | a seeded generator: a failure names its seed |
//! | [`wait`] | waiting for a condition, with a deadline |

#![forbid(unsafe_code)]

pub mod captures;
pub mod grpc;
pub mod otlp;
pub mod random;
pub mod records;
pub mod server;
pub mod simulator;
pub mod tools;
pub mod wait;

/// Root of the work tree whose tests run. It is asked when they run: a clone elsewhere may have built the same crate
/// into a shared target folder.
#[must_use]
pub fn workspace() -> std::path::PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = std::path::Path::new(&package);
    let root = package.ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.unwrap_or(package).to_path_buf()
}
