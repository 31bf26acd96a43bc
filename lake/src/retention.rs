//! Retention: how long the rows of each table are kept, and which files are past it.
//!
//! Raw telemetry is short-lived (a coding agent sends over a thousand spans a turn, and nothing that is charged
//! depends on them once they are read); facts stay. Whole files of a (tenant, day) go, never single rows: a file
//! is past its time when both its day and its arrival in the lake are, so that an import of old telemetry, or a
//! sender whose clock is behind, is kept as long as any other row.
//! Settings and decisions only: [`crate::Lake::expire`] removes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::data_file::{DataFile, format_day};
use crate::error::{Error, Result};
use crate::lake::Positions;
use crate::tables::Table;

/// Days of spans, logs, metrics and payloads kept by default: a month can be looked into span by span until the
/// next one is; what is charged, and why, is in the facts for ever.
pub const DEFAULT_RAW_DAYS: u32 = 30;
/// Fewest days of any table: today, and yesterday for what comes late.
pub const RETENTION_DAYS_MIN: u32 = 2;
/// Most days that can be asked for, about a century: beyond it, say `forever`.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Days that observations must outlive calls and ledger by: settlement folds a day with the days beside it, and
/// takes back charges whose observations it does not find.
pub const FACT_MARGIN_DAYS: u32 = 2;
/// A file counts as settled when everything that arrived this long after its writing is, nanoseconds: arrival is
/// noted a little before a request gets its place in the log, by a clock that may be set back.
const SETTLED_SLACK_NS: i64 = 600_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
const FOREVER: &str = "forever";

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until somebody deletes the folder.
    Forever,
    /// This many whole days before today, UTC.
    Days(u32),
}

impl Keep {
    fn days(self) -> u32 {
        match self {
            Self::Forever => u32::MAX,
            Self::Days(days) => days,
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str(FOREVER),
            Self::Days(days) => write!(f, "{days}"),
        }
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            FOREVER => Ok(Self::Forever),
            text => match text.parse() {
                Ok(days) => Ok(Self::Days(days)),
                Err(_) => Err(format!("`{text}` is neither a number of days nor `{FOREVER}`")),
            },
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Forever => serializer.serialize_str(FOREVER),
            Self::Days(days) => serializer.serialize_u32(*days),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of days or \"{FOREVER}\"")
            }

            fn visit_i64<E: serde::de::Error>(self, days: i64) -> std::result::Result<Keep, E> {
                u32::try_from(days)
                    .map(Keep::Days)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(days), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, days: u64) -> std::result::Result<Keep, E> {
                u32::try_from(days)
                    .map(Keep::Days)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(days), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Keep, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// How long each table is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Raw spans.
    pub spans: Keep,
    /// Raw log records.
    pub logs: Keep,
    /// Raw metric points.
    pub metrics: Keep,
    /// Prompts, arguments and results.
    pub payloads: Keep,
    /// What records said about operations: what calls and ledger are made of.
    pub observations: Keep,
    /// Calls.
    pub calls: Keep,
    /// Money lines.
    pub ledger: Keep,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self {
            spans: Keep::Days(DEFAULT_RAW_DAYS),
            logs: Keep::Days(DEFAULT_RAW_DAYS),
            metrics: Keep::Days(DEFAULT_RAW_DAYS),
            payloads: Keep::Days(DEFAULT_RAW_DAYS),
            observations: Keep::Forever,
            calls: Keep::Forever,
            ledger: Keep::Forever,
        }
    }
}

impl RetentionOptions {
    /// How long a table is kept.
    #[must_use]
    pub fn of(&self, table: Table) -> Keep {
        match table {
            Table::Spans => self.spans,
            Table::Logs => self.logs,
            Table::Metrics => self.metrics,
            Table::Payloads => self.payloads,
            Table::Observations => self.observations,
            Table::Calls => self.calls,
            Table::Ledger => self.ledger,
        }
    }

    /// What cannot be used of these settings, each with the next step; empty if all can.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for table in Table::ALL {
            let name = table.name();
            match self.of(table) {
                Keep::Days(days) if days < RETENTION_DAYS_MIN => problems.push(format!(
                    "retention.{name}_days = {days} is less than settlement works on; keep {RETENTION_DAYS_MIN} days or more"
                )),
                Keep::Days(days) if days > RETENTION_DAYS_MAX => problems.push(format!(
                    "retention.{name}_days = {days} is over {RETENTION_DAYS_MAX}; say \"{FOREVER}\""
                )),
                _ => {}
            }
        }
        for fact in [Table::Calls, Table::Ledger] {
            let (kept, needed) = (self.observations.days(), self.of(fact).days());
            if kept != u32::MAX && kept < needed.saturating_add(FACT_MARGIN_DAYS) {
                problems.push(format!(
                    "retention.observations_days = {} does not outlive retention.{}_days = {} by {FACT_MARGIN_DAYS} days: \
                     settlement would take back charges whose observations are gone; keep observations longer",
                    self.observations,
                    fact.name(),
                    self.of(fact)
                ));
            }
        }
        problems
    }

    /// These settings, where all of them can be used.
    ///
    /// # Errors
    /// `Invalid` with the first of [`Self::problems`].
    pub fn check(&self) -> Result<()> {
        match self.problems().into_iter().next() {
            Some(problem) => Err(Error::invalid(problem)),
            None => Ok(()),
        }
    }
}

/// Files of one table that are past their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableExpiry {
    /// The table's name.
    pub table: &'static str,
    /// How long it is kept.
    pub keep: Keep,
    /// Files that go.
    pub n_files: u64,
    /// Their rows.
    pub n_rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Days that go, of any tenant.
    pub n_days: u64,
    /// The first of them.
    pub first_day: Option<String>,
    /// The last of them.
    pub last_day: Option<String>,
    /// Files past their time that stay because settlement has not read them yet.
    pub n_files_unsettled: u64,
}

/// What an expiry removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExpireReport {
    /// Each table.
    pub tables: Vec<TableExpiry>,
}

impl ExpireReport {
    /// Files of all tables.
    #[must_use]
    pub fn n_files(&self) -> u64 {
        self.tables.iter().map(|table| table.n_files).sum()
    }

    /// Rows of all tables.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.tables.iter().map(|table| table.n_rows).sum()
    }

    /// Bytes of all tables.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

/// The files of a table that are past their time.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    pub(crate) files: Vec<DataFile>,
    pub(crate) n_unsettled: u64,
}

impl Expired {
    pub(crate) fn report(&self, table: Table, keep: Keep) -> TableExpiry {
        let mut days: Vec<i32> = self.files.iter().filter_map(last_day).collect();
        days.sort_unstable();
        days.dedup();
        TableExpiry {
            table: table.name(),
            keep,
            n_files: self.files.len() as u64,
            n_rows: self.files.iter().map(|file| file.n_rows).sum(),
            bytes: self.files.iter().map(|file| file.size_bytes).sum(),
            n_days: days.len() as u64,
            first_day: days.first().map(|day| format_day(*day)),
            last_day: days.last().map(|day| format_day(*day)),
            n_files_unsettled: self.n_unsettled,
        }
    }
}

/// The first day that stays; `None` where all do.
pub(crate) fn first_kept_day(keep: Keep, now_ns: i64) -> Option<i32> {
    let Keep::Days(days) = keep else { return None };
    let today = i32::try_from(now_ns.div_euclid(DAY_NS)).ok()?;
    Some(today.saturating_sub_unsigned(days))
}

/// The last day of a file's rows; `None` where nobody knows, and the file stays. A file of another tool may hold
/// several tenants and days: the newest of its rows decides.
fn last_day(file: &DataFile) -> Option<i32> {
    if file.tenant.is_empty() {
        let day = file.max_time_us?.div_euclid(DAY_NS / 1_000);
        return i32::try_from(day).ok();
    }
    Some(file.day)
}

/// Finds what is past its time. `positions` is for observations only: what settlement has not read stays.
pub(crate) fn expired<'f>(
    table: Table,
    files: impl Iterator<Item = &'f DataFile>,
    keep: Keep,
    now_ns: i64,
    positions: &Positions,
) -> Expired {
    let mut expired = Expired::default();
    let (Some(first_kept), Keep::Days(days)) = (first_kept_day(keep, now_ns), keep) else {
        return expired;
    };
    let written_before_ns = now_ns.saturating_sub(i64::from(days).saturating_mul(DAY_NS));
    for file in files {
        let is_old = last_day(file).is_some_and(|day| day < first_kept);
        if !is_old
            || file
                .written_ns()
                .is_some_and(|written_ns| written_ns >= written_before_ns)
        {
            continue;
        }
        if table == Table::Observations && !is_settled(file, positions) {
            expired.n_unsettled += 1;
        } else {
            expired.files.push(file.clone());
        }
    }
    expired
}

/// Whether settlement has read every row of an observations file.
fn is_settled(file: &DataFile, positions: &Positions) -> bool {
    let is_before_settled = |written_ns: i64| written_ns.saturating_add(SETTLED_SLACK_NS) <= positions.settled_ns;
    positions.settled >= positions.flushed || file.written_ns().is_some_and(is_before_settled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const TODAY: i32 = 20_000;
    const NOW_NS: i64 = TODAY as i64 * DAY_NS + 5;

    fn file(day: i32, written_days_ago: i64) -> DataFile {
        let written_ns = NOW_NS - written_days_ago * DAY_NS;
        DataFile {
            path: format!(
                "tables/spans/tenant=a/day={}/part-{written_ns:016x}-000000-n.parquet",
                format_day(day)
            ),
            size_bytes: 10,
            n_rows: 1,
            tenant: "a".to_owned(),
            day,
            min_time_us: None,
            max_time_us: None,
        }
    }

    fn is_expired(file: &DataFile, keep: Keep) -> bool {
        let positions = Positions::default();
        !expired(Table::Spans, std::iter::once(file), keep, NOW_NS, &positions)
            .files
            .is_empty()
    }

    #[test]
    fn a_file_goes_when_both_its_day_and_its_arrival_are_past() {
        for (day, written_days_ago, expected) in [
            (TODAY - 31, 31, true),
            (TODAY - 30, 31, false),
            (TODAY - 31, 30, false),
            (TODAY - 400, 1, false),
            (TODAY, 400, false),
        ] {
            let file = file(day, written_days_ago);
            assert_eq!(is_expired(&file, Keep::Days(30)), expected, "{day} {written_days_ago}");
            assert!(!is_expired(&file, Keep::Forever));
        }
    }

    #[test]
    fn a_file_of_another_tool_goes_by_its_newest_row_or_stays() {
        let mut foreign = DataFile {
            tenant: String::new(),
            day: 0,
            path: "tables/spans/part-00000-x.snappy.parquet".to_owned(),
            ..file(0, 0)
        };
        assert!(!is_expired(&foreign, Keep::Days(30)), "nobody knows its days");
        foreign.max_time_us = Some(i64::from(TODAY - 10) * DAY_NS / 1_000);
        assert!(!is_expired(&foreign, Keep::Days(30)));
        foreign.max_time_us = Some(i64::from(TODAY - 31) * DAY_NS / 1_000);
        assert!(is_expired(&foreign, Keep::Days(30)));
    }

    #[test]
    fn observations_stay_until_they_are_settled() {
        let old = file(TODAY - 50, 40);
        let check = |positions: Positions| {
            let expired = expired(
                Table::Observations,
                std::iter::once(&old),
                Keep::Days(30),
                NOW_NS,
                &positions,
            );
            (expired.files.len(), expired.n_unsettled)
        };
        let behind = Positions {
            flushed: 9,
            settled: 8,
            ..Positions::default()
        };
        assert_eq!(check(behind), (0, 1));
        let settled_ns = old.written_ns().unwrap() + SETTLED_SLACK_NS;
        assert_eq!(
            check(Positions { settled_ns, ..behind }),
            (1, 0),
            "settlement is past this file"
        );
        assert_eq!(
            check(Positions { settled: 9, ..behind }),
            (1, 0),
            "settlement has everything"
        );
    }

    #[test]
    fn what_settlement_needs_cannot_be_set_away() {
        let check = |change: fn(&mut RetentionOptions), expected: &str| {
            let mut options = RetentionOptions::default();
            change(&mut options);
            let problems = options.problems().join("\n");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
            assert!(problems.contains(expected), "{problems}");
            assert_eq!(options.check().is_ok(), expected.is_empty());
        };
        check(|_| {}, "");
        check(|options| options.spans = Keep::Days(2), "");
        check(|options| options.spans = Keep::Days(1), "retention.spans_days = 1");
        check(
            |options| options.payloads = Keep::Days(0),
            "retention.payloads_days = 0",
        );
        check(|options| options.logs = Keep::Days(u32::MAX), "forever");
        check(
            |options| options.observations = Keep::Days(400),
            "does not outlive retention.calls_days = forever",
        );
        check(|options| options.ledger = Keep::Days(400), "");
        let facts = |options: &mut RetentionOptions| {
            (options.calls, options.ledger) = (Keep::Days(400), Keep::Days(400));
            options.observations = Keep::Days(402);
        };
        check(facts, "");
        check(
            |options| {
                (options.calls, options.ledger) = (Keep::Days(400), Keep::Days(400));
                options.observations = Keep::Days(401);
            },
            "by 2 days",
        );
    }

    #[test]
    fn a_number_of_days_or_forever_is_read_back_as_written() {
        for (text, expected) in [
            ("30", Some(Keep::Days(30))),
            ("forever", Some(Keep::Forever)),
            ("0", Some(Keep::Days(0))),
            ("-1", None),
            ("30d", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Keep>().ok(), expected, "{text}");
            if let Some(keep) = expected {
                assert_eq!(keep.to_string(), text);
                let json = serde_json::to_string(&keep).unwrap();
                assert_eq!(serde_json::from_str::<Keep>(&json).unwrap(), keep);
            }
        }
        assert!(serde_json::from_str::<Keep>("-1").is_err());
        assert!(serde_json::from_str::<Keep>("5000000000").is_err());
    }
}
