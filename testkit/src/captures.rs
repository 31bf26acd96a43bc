//! Captures: OTLP requests exactly as real emitters sent them, with the totals that are true after deduplication.
//!
//! The files are copies of the project's shared captures (`fixtures/captures/NAME/`): `NNN-SIGNAL.pb|json` in
//! order of arrival, `expected.json` from the mock model API's own log. See each folder's README.md.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::otlp::{Body, Encoding, Signal};

/// The captures whose dialects are done.
pub const NAMES: [&str; 4] = ["claude-code", "claude-code-json", "fastmcp-gateway", "openinference"];

/// One capture.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Folder name.
    pub name: String,
    /// Request bodies in order of arrival.
    pub bodies: Vec<Body>,
    /// The ground truth.
    pub expected: Value,
}

impl Capture {
    /// Reads a capture from the fixtures.
    ///
    /// # Errors
    /// Where a file is missing or its name is not understood.
    pub fn load(name: &str) -> Result<Self> {
        let folder = folder(name);
        let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("could not list {}", folder.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        paths.sort();
        let mut bodies = Vec::new();
        for path in paths {
            if let Some((signal, encoding)) = kind_of(&path) {
                let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
                bodies.push(Body {
                    signal,
                    encoding,
                    bytes,
                });
            }
        }
        ensure!(!bodies.is_empty(), "no request bodies in {}", folder.display());
        let expected = fs::read_to_string(folder.join("expected.json"))?;
        Ok(Self {
            name: name.to_owned(),
            bodies,
            expected: serde_json::from_str(&expected)?,
        })
    }

    /// A number of the ground truth; 0 where it does not name one.
    #[must_use]
    pub fn truth(&self, pointer: &str) -> i64 {
        self.expected.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
    }
}

/// Folder of a capture in the work tree.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/captures")
        .join(name)
}

/// Signal and encoding of `NNN-SIGNAL.pb|json`; `None` for the other files of a capture.
fn kind_of(path: &Path) -> Option<(Signal, Encoding)> {
    let encoding = match path.extension()?.to_str()? {
        "pb" => Encoding::Protobuf,
        "json" => Encoding::Json,
        _ => return None,
    };
    let (_, signal) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((Signal::parse(signal)?, encoding))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_capture_is_read_in_order_of_arrival() {
        let check = |name: &str, n_bodies: usize, first: (Signal, Encoding)| {
            let capture = Capture::load(name).unwrap();
            assert_eq!(capture.bodies.len(), n_bodies, "{name}");
            assert_eq!((capture.bodies[0].signal, capture.bodies[0].encoding), first, "{name}");
        };
        check("claude-code", 9, (Signal::Traces, Encoding::Protobuf));
        check("claude-code-json", 10, (Signal::Traces, Encoding::Protobuf));
        check("fastmcp-gateway", 35, (Signal::Traces, Encoding::Protobuf));
        check("openinference", 8, (Signal::Traces, Encoding::Protobuf));
        assert_eq!(Capture::load("claude-code").unwrap().truth("/cache_read"), 93_750);
    }
}
