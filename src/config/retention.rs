//! `[retention]` and `[[noise]]`: how long each table is kept, and which raw spans are stored for a share of
//! their traces only. What is checked is decided by the crates that do it.

use serde::Deserialize;
use spanledger_ingest::noise::{NoiseRule, NoiseRules};
use spanledger_lake::{Keep, RetentionOptions};

use super::resolve::{Resolver, Setting};
use super::{Shown, shown};

/// `[retention]`, in days or `forever`.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Raw spans.
    pub spans_days: Setting<Keep>,
    /// Raw log records.
    pub logs_days: Setting<Keep>,
    /// Raw metric points.
    pub metrics_days: Setting<Keep>,
    /// Prompts, arguments and results.
    pub payloads_days: Setting<Keep>,
    /// What records said about operations.
    pub observations_days: Setting<Keep>,
    /// Calls.
    pub calls_days: Setting<Keep>,
    /// Money lines.
    pub ledger_days: Setting<Keep>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileRetention {
    spans_days: Option<Keep>,
    logs_days: Option<Keep>,
    metrics_days: Option<Keep>,
    payloads_days: Option<Keep>,
    observations_days: Option<Keep>,
    calls_days: Option<Keep>,
    ledger_days: Option<Keep>,
}

impl Retention {
    pub(super) fn resolve(file: &FileRetention, from: &Resolver) -> anyhow::Result<Self> {
        let default = RetentionOptions::default();
        let pick = |key, env, file, default| from.pick(key, env, None, file, default);
        Ok(Self {
            spans_days: pick(
                "retention.spans_days",
                "SPANLEDGER_RETENTION_SPANS_DAYS",
                file.spans_days,
                default.spans,
            )?,
            logs_days: pick(
                "retention.logs_days",
                "SPANLEDGER_RETENTION_LOGS_DAYS",
                file.logs_days,
                default.logs,
            )?,
            metrics_days: pick(
                "retention.metrics_days",
                "SPANLEDGER_RETENTION_METRICS_DAYS",
                file.metrics_days,
                default.metrics,
            )?,
            payloads_days: pick(
                "retention.payloads_days",
                "SPANLEDGER_RETENTION_PAYLOADS_DAYS",
                file.payloads_days,
                default.payloads,
            )?,
            observations_days: pick(
                "retention.observations_days",
                "SPANLEDGER_RETENTION_OBSERVATIONS_DAYS",
                file.observations_days,
                default.observations,
            )?,
            calls_days: pick(
                "retention.calls_days",
                "SPANLEDGER_RETENTION_CALLS_DAYS",
                file.calls_days,
                default.calls,
            )?,
            ledger_days: pick(
                "retention.ledger_days",
                "SPANLEDGER_RETENTION_LEDGER_DAYS",
                file.ledger_days,
                default.ledger,
            )?,
        })
    }

    /// As the lake takes them.
    pub fn options(&self) -> RetentionOptions {
        RetentionOptions {
            spans: self.spans_days.value,
            logs: self.logs_days.value,
            metrics: self.metrics_days.value,
            payloads: self.payloads_days.value,
            observations: self.observations_days.value,
            calls: self.calls_days.value,
            ledger: self.ledger_days.value,
        }
    }

    pub(super) fn show(&self) -> Vec<Shown> {
        [
            (
                "retention.spans_days",
                "SPANLEDGER_RETENTION_SPANS_DAYS",
                &self.spans_days,
            ),
            ("retention.logs_days", "SPANLEDGER_RETENTION_LOGS_DAYS", &self.logs_days),
            (
                "retention.metrics_days",
                "SPANLEDGER_RETENTION_METRICS_DAYS",
                &self.metrics_days,
            ),
            (
                "retention.payloads_days",
                "SPANLEDGER_RETENTION_PAYLOADS_DAYS",
                &self.payloads_days,
            ),
            (
                "retention.observations_days",
                "SPANLEDGER_RETENTION_OBSERVATIONS_DAYS",
                &self.observations_days,
            ),
            (
                "retention.calls_days",
                "SPANLEDGER_RETENTION_CALLS_DAYS",
                &self.calls_days,
            ),
            (
                "retention.ledger_days",
                "SPANLEDGER_RETENTION_LEDGER_DAYS",
                &self.ledger_days,
            ),
        ]
        .into_iter()
        .map(|(key, env, setting)| shown(key, env, setting, ToString::to_string))
        .collect()
    }
}

/// The user's noise rules on one line; they have no environment variable.
pub(super) fn show_noise(rules: &Setting<Vec<NoiseRule>>) -> Shown {
    shown("noise", "", rules, |rules| {
        let mut names: Vec<String> = rules
            .iter()
            .map(|rule| format!("{} keep {}", rule.rule, rule.keep))
            .collect();
        names.push("built-in rules".to_owned());
        names.join(", ")
    })
}

/// What cannot be used of the two, each with the next step.
pub(super) fn problems(retention: &Retention, noise: &[NoiseRule]) -> Vec<String> {
    let mut problems = retention.options().problems();
    if let Err(problem) = NoiseRules::with(noise) {
        problems.push(problem.message().to_owned());
    }
    problems
}
