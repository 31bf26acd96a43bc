//! `[mcp]`: how long tasks of the MCP server live, how long a client that knows none waits, what a statement may read
//! before a person is asked, whether the server meters itself.

use std::time::Duration;

use serde::Deserialize;
use spanledger_mcp_server::TaskSettings;

use super::resolve::{Resolver, Setting};
use super::{Shown, shown};

/// `[mcp]`.
#[derive(Debug, Clone)]
pub struct Mcp {
    /// From a task's making until it is forgotten, where its client asks for nothing else.
    pub task_ttl_s: Setting<u64>,
    /// The longest that a client may ask for.
    pub task_ttl_max_s: Setting<u64>,
    /// How long an answer is kept at least after the work ended.
    pub task_retention_s: Setting<u64>,
    /// How long a call of a client without tasks waits.
    pub wait_s: Setting<u64>,
    /// Bytes of files that a statement of `run_sql` may read without a person being asked.
    pub unasked_file_bytes: Setting<u64>,
    /// Whether what the MCP server is asked becomes calls in the ledger.
    pub meter: Setting<bool>,
    /// Whether the fixtures of the conformance suite are served: a flag, never a setting.
    pub conformance_fixtures: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileMcp {
    task_ttl_s: Option<u64>,
    task_ttl_max_s: Option<u64>,
    task_retention_s: Option<u64>,
    wait_s: Option<u64>,
    unasked_file_bytes: Option<u64>,
    meter: Option<bool>,
}

const TTL: (&str, &str) = ("mcp.task_ttl_s", "SPANLEDGER_MCP_TASK_TTL_S");
const TTL_MAX: (&str, &str) = ("mcp.task_ttl_max_s", "SPANLEDGER_MCP_TASK_TTL_MAX_S");
const RETENTION: (&str, &str) = ("mcp.task_retention_s", "SPANLEDGER_MCP_TASK_RETENTION_S");
const WAIT: (&str, &str) = ("mcp.wait_s", "SPANLEDGER_MCP_WAIT_S");
const UNASKED: (&str, &str) = ("mcp.unasked_file_bytes", "SPANLEDGER_MCP_UNASKED_FILE_BYTES");
const METER: (&str, &str) = ("mcp.meter", "SPANLEDGER_MCP_METER");

impl Mcp {
    pub(super) fn resolve(file: &FileMcp, from: &Resolver) -> anyhow::Result<Self> {
        let default = TaskSettings::default();
        let pick = |(key, env): (&'static str, &'static str), file, default: Duration| {
            from.pick(key, env, None, file, default.as_secs())
        };
        Ok(Self {
            task_ttl_s: pick(TTL, file.task_ttl_s, default.ttl)?,
            task_ttl_max_s: pick(TTL_MAX, file.task_ttl_max_s, default.ttl_max)?,
            task_retention_s: pick(RETENTION, file.task_retention_s, default.retention)?,
            wait_s: pick(WAIT, file.wait_s, default.wait_window)?,
            unasked_file_bytes: from.pick(
                UNASKED.0,
                UNASKED.1,
                None,
                file.unasked_file_bytes,
                spanledger_mcp_server::limits::UNASKED_FILE_BYTES,
            )?,
            meter: from.pick(METER.0, METER.1, None, file.meter, true)?,
            conformance_fixtures: false,
        })
    }

    /// As the MCP server takes them.
    pub fn tasks(&self) -> TaskSettings {
        TaskSettings {
            ttl: Duration::from_secs(self.task_ttl_s.value),
            ttl_max: Duration::from_secs(self.task_ttl_max_s.value),
            retention: Duration::from_secs(self.task_retention_s.value),
            wait_window: Duration::from_secs(self.wait_s.value),
            ..TaskSettings::default()
        }
    }

    pub(super) fn show(&self) -> Vec<Shown> {
        let mut lines: Vec<Shown> = [
            (TTL, &self.task_ttl_s),
            (TTL_MAX, &self.task_ttl_max_s),
            (RETENTION, &self.task_retention_s),
            (WAIT, &self.wait_s),
            (UNASKED, &self.unasked_file_bytes),
        ]
        .into_iter()
        .map(|((key, env), setting)| shown(key, env, setting, ToString::to_string))
        .collect();
        lines.push(shown(METER.0, METER.1, &self.meter, ToString::to_string));
        lines
    }
}
