//! Reports: the chargeback statement of a month, its FOCUS export, costs by dimensions, as files.
//!
//! ```text
//! ledger (one snapshot) ─► statement / focus ─► Document ─► csv, xlsx, pdf, html, markdown, json ─► Artefact
//!                                        └────────────────► FOCUS 1.2 csv, parquet                 │
//!                                                                                  Reports::keep ◄─┘
//! ```
//!
//! Guarantee: parts add up to the total that `costs` tells, to the last digit, in every format; a report that does not
//! is not made. What is unpriced, unallocated or left out stands in it by name. [`Reports`] keeps what was made, each
//! for who made it.
//!
//! Closing a period and reconciling bills are not here: a statement says that its period is not closed.

pub mod document;
mod focus;
mod pdf;
mod statement;
mod store;
mod write;
mod xlsx;

use spanledger_access::Principal;
use spanledger_ledger::allocation::Period;
use spanledger_model::FemtoUsd;

use crate::costs::{CostRequest, Dimension};
use crate::engine::Engine;
use crate::error::{Error, Result, did_you_mean};

pub use store::{Kept, Reports};

/// What a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// Who bears what, of a month.
    Chargeback,
    /// The month's charges as rows of FOCUS 1.2.
    Focus,
    /// The month's costs by dimensions.
    Costs,
}

impl ReportKind {
    const ALL: [Self; 3] = [Self::Chargeback, Self::Focus, Self::Costs];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chargeback => "chargeback",
            Self::Focus => "focus",
            Self::Costs => "costs",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), listing the kinds.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name.trim());
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            Error::invalid(format!(
                "`{name:.40}` is no report{}; reports: {}",
                did_you_mean(name, names.into_iter()),
                names.join(", ")
            ))
        })
    }

    fn formats(self) -> &'static [ReportFormat] {
        match self {
            Self::Focus => &[ReportFormat::Csv, ReportFormat::Parquet],
            _ => &[
                ReportFormat::Xlsx,
                ReportFormat::Pdf,
                ReportFormat::Csv,
                ReportFormat::Html,
                ReportFormat::Markdown,
                ReportFormat::Json,
            ],
        }
    }
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// RFC 4180.
    Csv,
    /// A workbook with a sheet for each table.
    Xlsx,
    /// Pages of paper.
    Pdf,
    /// One page.
    Html,
    /// Tables of text.
    Markdown,
    /// One object.
    Json,
    /// Columns; of FOCUS.
    Parquet,
}

impl ReportFormat {
    const ALL: [Self; 7] = [
        Self::Csv,
        Self::Xlsx,
        Self::Pdf,
        Self::Html,
        Self::Markdown,
        Self::Json,
        Self::Parquet,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Pdf => "pdf",
            Self::Html => "html",
            Self::Markdown => "markdown",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }

    /// Its media type.
    #[must_use]
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Pdf => "application/pdf",
            Self::Html => "text/html",
            Self::Markdown => "text/markdown",
            Self::Json => "application/json",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            other => other.name(),
        }
    }
}

/// A report to be made.
#[derive(Debug, Clone)]
pub struct ReportRequest {
    /// What it is.
    pub kind: ReportKind,
    /// The month, UTC.
    pub period: Period,
    /// Only lines whose dimension has one of the values; `None` stands for lines without a value.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// Dimensions of a report on costs.
    pub by: Vec<Dimension>,
    /// How it is written.
    pub format: ReportFormat,
}

impl ReportRequest {
    /// Reads the parts of a question. Without a format, a statement is a workbook and FOCUS is CSV; `focus` as a
    /// format asks for the FOCUS rows of what was asked.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the part and what it can be.
    pub fn read(
        kind: &str,
        period: &str,
        format: Option<&str>,
        by: &str,
        filters: Vec<(Dimension, Vec<Option<String>>)>,
    ) -> Result<Self> {
        let mut kind = ReportKind::parse(kind)?;
        let period = Period::parse(period.trim()).map_err(|error| Error::invalid(error.message().to_owned()))?;
        let format = match format.map(str::trim) {
            None | Some("") => None,
            Some("focus") => {
                kind = ReportKind::Focus;
                None
            }
            Some("md") => Some(ReportFormat::Markdown),
            Some(name) => {
                let found = ReportFormat::ALL.into_iter().find(|format| format.name() == name);
                Some(found.ok_or_else(|| unknown_format(kind, name))?)
            }
        };
        let formats = kind.formats();
        let format = format.or_else(|| formats.first().copied()).unwrap_or(ReportFormat::Csv);
        if !formats.contains(&format) {
            return Err(unknown_format(kind, format.name()));
        }
        let by = Dimension::parse_list(by)?;
        if !by.is_empty() && kind != ReportKind::Costs {
            return Err(Error::invalid(format!(
                "`by` is for the report costs; {} has tables of its own",
                kind.name()
            )));
        }
        Ok(Self {
            kind,
            period,
            filters,
            by,
            format,
        })
    }

    /// First instant, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn since_ns(&self) -> i64 {
        statement::day_ns(self.period.first_day())
    }

    /// First instant after it.
    #[must_use]
    pub fn until_ns(&self) -> i64 {
        statement::day_ns(self.period.first_day() + self.period.n_days())
    }

    fn cost_request(&self, by: Vec<Dimension>) -> CostRequest {
        CostRequest {
            by,
            since_ns: Some(self.since_ns()),
            until_ns: Some(self.until_ns()),
            filters: self.filters.clone(),
            ..CostRequest::default()
        }
    }
}

fn unknown_format(kind: ReportKind, name: &str) -> Error {
    let names: Vec<&str> = kind.formats().iter().map(|format| format.name()).collect();
    Error::invalid(format!(
        "a {} report has no format `{name:.40}`; formats: {}",
        kind.name(),
        names.join(", ")
    ))
}

/// A report that was made.
#[derive(Debug, Clone)]
pub struct Artefact {
    /// What it is.
    pub kind: ReportKind,
    /// Its title, for people.
    pub title: String,
    /// A name for its file, of letters, digits, dots and dashes.
    pub file_name: String,
    /// Its format.
    pub format: ReportFormat,
    /// The file.
    pub bytes: Vec<u8>,
    /// What it sums to, USD: with shared costs.
    pub total: FemtoUsd,
    /// Rows of its first table.
    pub n_rows: usize,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// A few lines of its first table, dearest first: names, then what is charged.
    pub top: Vec<(Vec<String>, Option<FemtoUsd>)>,
    /// What they are: names of the columns of the names, and of what is charged.
    pub top_columns: Vec<&'static str>,
}

/// Lines of a report that whoever made it is told at once.
const TOP_LINES: usize = 10;

/// The note of a report without a line.
const NOTHING: &str = "nothing was charged or counted in this month under these filters";

impl Engine {
    /// Makes a report of what a principal sees. `told` is called with steps done, and steps in all.
    ///
    /// # Errors
    /// Those of [`Engine::costs`]; [`Internal`](crate::ErrorKind::Internal) where parts do not add up.
    pub async fn report(
        &self,
        principal: &Principal,
        request: &ReportRequest,
        told: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Artefact> {
        let session = self.session(principal);
        let file_name = format!(
            "{}-{}.{}",
            request.kind.name(),
            request.period,
            request.format.extension()
        );
        if request.kind == ReportKind::Focus {
            return focus::focus(&session, principal, request, file_name, told).await;
        }
        let mut document = match request.kind {
            ReportKind::Costs => statement::costs(&session, principal, request, self.now_ns(), told).await?,
            _ => statement::chargeback(&session, principal, request, self.now_ns(), told).await?,
        };
        if document.sections.first().is_none_or(|section| section.rows.is_empty()) {
            document.notes.insert(0, NOTHING.to_owned());
        }
        let first = document.sections.first();
        let position = |name: &str| {
            let mut columns = first.into_iter().flat_map(|section| &section.columns);
            columns.position(|column| column.name == name)
        };
        let charged = position("total_cost")
            .or_else(|| position("effective_cost"))
            .unwrap_or(0);
        let money = |row: &Vec<document::Cell>| match row.get(charged) {
            Some(document::Cell::Money(cost)) => Some(*cost),
            _ => None,
        };
        let n_names = position("effective_cost").unwrap_or(0);
        let lines = first.into_iter().flat_map(|section| &section.rows);
        let top = lines.take(TOP_LINES).map(|row| {
            let names = row.iter().take(n_names).map(document::Cell::to_text);
            (names.collect(), money(row))
        });
        let top = top.collect();
        let column = |at: usize| first.and_then(|section| section.columns.get(at));
        let top_columns = (0..n_names).chain([charged]).filter_map(|at| Some(column(at)?.name));
        let total = first
            .and_then(|section| money(section.total.as_ref()?))
            .unwrap_or_default();
        let bytes = match request.format {
            ReportFormat::Csv => write::csv(&document),
            ReportFormat::Xlsx => xlsx::xlsx(&document)?,
            ReportFormat::Pdf => pdf::pdf(&document)?,
            ReportFormat::Html => write::html(&document),
            ReportFormat::Markdown => write::markdown(&document),
            _ => write::json(&document),
        };
        Ok(Artefact {
            kind: request.kind,
            title: document.title.clone(),
            file_name,
            format: request.format,
            bytes,
            total,
            n_rows: first.map_or(0, |section| section.rows.len()),
            top_columns: top_columns.collect(),
            notes: document.notes,
            top,
        })
    }
}
