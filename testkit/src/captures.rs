//! Captures: OTLP requests exactly as real emitters sent them, with the totals that are true after deduplication.
//!
//! The files are copies of the project's shared captures (`fixtures/captures/NAME/`): `NNN-SIGNAL.pb|json` in
//! order of arrival, `expected.json` from the mock model API's own log. See each folder's README.md.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::otlp::{Body, Encoding, Signal};

/// The captures of genuine telemetry: every folder with a ground truth.
///
/// # Errors
/// Where the fixtures cannot be listed.
pub fn names() -> Result<Vec<String>> {
    names_in(&folder(""))
}

/// The fixtures made by hand after the documentation of emitters that cannot be run here.
///
/// # Errors
/// Where the fixtures cannot be listed.
pub fn synthetic_names() -> Result<Vec<String>> {
    names_in(&synthetic_folder(""))
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().join("expected.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

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
        Self::read(name, &folder(name))
    }

    /// Reads a synthetic fixture.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_synthetic(name: &str) -> Result<Self> {
        Self::read(name, &synthetic_folder(name))
    }

    fn read(name: &str, folder: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
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

    /// What its calls must come to.
    #[must_use]
    pub fn totals(&self) -> Truth {
        let mut truth = Truth::read(&self.expected);
        if self.name == "litellm-proxy" {
            // Its README gives 0.0080444, but the costs in its bodies, spans and metric alike, sum to this.
            truth.cost = Some("0.0080294".to_owned());
        }
        truth
    }

    /// A number of the ground truth; 0 where it does not name one.
    #[must_use]
    pub fn truth(&self, pointer: &str) -> i64 {
        self.expected.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
    }
}

/// What the calls of a capture must come to, as far as its ground truth says: `None` is not said. Counts of
/// tokens are inclusive, as in `calls`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// Model calls that were answered.
    pub llm_calls: Option<i64>,
    /// Model calls that failed for good.
    pub failed_llm_calls: Option<i64>,
    /// Embedding calls.
    pub embeddings: Option<i64>,
    /// Input tokens of model calls.
    pub input: Option<i64>,
    /// Output tokens of model calls.
    pub output: Option<i64>,
    /// Input tokens read from a cache.
    pub cache_read: Option<i64>,
    /// Input tokens written to a cache.
    pub cache_write: Option<i64>,
    /// The provider that the two cache counts are about, where they leave the others out.
    pub cache_of: Option<&'static str>,
    /// Cost in USD that the emitter reports, as its digits.
    pub cost: Option<String>,
    /// Tool calls of any sort.
    pub tool_calls: Option<i64>,
    /// MCP tool calls.
    pub mcp_tool_calls: Option<i64>,
    /// MCP tool calls that failed.
    pub mcp_tool_errors: Option<i64>,
    /// MCP prompts fetched.
    pub prompts: Option<i64>,
    /// MCP resources read.
    pub resources: Option<i64>,
    /// MCP resources that could not be read.
    pub resource_errors: Option<i64>,
}

impl Truth {
    /// Reads an `expected.json`, whose words depend on what its emitter tells.
    fn read(expected: &Value) -> Self {
        let number = |key: &str| expected.get(key).and_then(Value::as_i64);
        // Some captures give their numbers by run or by provider.
        let runs = expected.get("runs").and_then(Value::as_object);
        let parts: Vec<&Value> = match runs {
            Some(runs) => runs.values().collect(),
            None => ["anthropic", "openai"]
                .iter()
                .filter_map(|name| expected.get(name))
                .collect(),
        };
        let of_parts = |key: &str| {
            let numbers = parts.iter().filter_map(|part| part.get(key)?.as_i64());
            parts.iter().any(|part| part.get(key).is_some()).then(|| numbers.sum())
        };
        let cache_read = number("cache_read").or_else(|| of_parts("cache_read"));
        let cache_write = number("cache_write").or_else(|| of_parts("cache_write"));
        let uncached = number("input_tokens_uncached");
        let with_cache = uncached.map(|uncached| uncached + cache_read.unwrap_or(0) + cache_write.unwrap_or(0));
        let with_thoughts = number("output_tokens_excl_thoughts")
            .zip(number("thoughts"))
            .map(|(a, b)| a + b);
        let cost = ["cost_usd", "cost_usd_sum_of_usage_spans"]
            .iter()
            .find_map(|key| expected.get(key))
            .map(ToString::to_string);
        let costs: Vec<String> = parts
            .iter()
            .filter_map(|part| Some(part.get("cost_usd")?.to_string()))
            .collect();
        Self {
            llm_calls: number("llm_calls")
                .or_else(|| number("usage_spans"))
                .or_else(|| of_parts("calls")),
            failed_llm_calls: number("failed_calls"),
            embeddings: number("embeddings_calls"),
            input: number("input_tokens_total")
                .or(with_cache)
                .or_else(|| of_parts("input_total")),
            output: number("output_tokens").or(with_thoughts).or_else(|| of_parts("output")),
            cache_read,
            cache_write,
            cache_of: expected.get("anthropic").map(|_| "anthropic"),
            cost: cost.or_else(|| sum_of_decimals(&costs)),
            tool_calls: number("tool_calls"),
            mcp_tool_calls: number("mcp_tool_calls"),
            mcp_tool_errors: number("mcp_tool_errors"),
            prompts: number("prompts_get"),
            resources: number("resources_read"),
            resource_errors: number("resource_errors"),
        }
    }
}

/// The sum of decimals below a million, of at most 15 decimal places, digit for digit; `None` where there are none.
fn sum_of_decimals(decimals: &[String]) -> Option<String> {
    const PLACES: usize = 15;
    let scaled = |text: &String| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{fraction:0<PLACES$}").parse::<i128>().ok()
    };
    let sum: i128 = decimals.iter().map(scaled).sum::<Option<i128>>()?;
    let unit = 10_i128.pow(PLACES as u32);
    (!decimals.is_empty()).then(|| format!("{}.{:0>PLACES$}", sum / unit, sum % unit))
}

/// Folder of a capture in the work tree.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    crate::workspace().join("testkit/fixtures/captures").join(name)
}

/// Folder of a synthetic fixture in the work tree.
#[must_use]
pub fn synthetic_folder(name: &str) -> PathBuf {
    crate::workspace().join("testkit/fixtures/synthetic").join(name)
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
