//! Command line of `report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Where;

const EXAMPLES: &str = "\
Examples:
  spanledger report chargeback --period 2026-10 -o chargeback.xlsx --format xlsx
  spanledger report chargeback --period 2026-10 --team payments --format html -o payments.html
  spanledger report chargeback --period 2026-10 --format pdf -o chargeback.pdf
  spanledger report focus --period 2026-10 --format parquet -o focus.parquet
  spanledger report costs --period 2026-10 --by team,server,tool --format csv
  spanledger report chargeback --period 2026-10 --format json --url http://127.0.0.1:8080
What stands in each report and how it adds up: docs/reports.md";

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Who bears what: by team, model, tool, prompt, kind; direct, shared, unpriced, unallocated.
    Chargeback,
    /// Rows of FOCUS 1.2, Cost and Usage.
    Focus,
    /// Costs by the dimensions of --by.
    Costs,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// RFC 4180, exact digits.
    Csv,
    /// A workbook, a sheet for each table.
    Xlsx,
    /// Pages of paper.
    Pdf,
    /// One page.
    Html,
    /// FOCUS 1.2 rows of what is reported, as CSV.
    Focus,
    /// Tables of text.
    Markdown,
    /// One object.
    Json,
    /// Columns; of FOCUS.
    Parquet,
}

/// `report`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// What is reported
    #[arg(value_enum)]
    pub kind: Kind,
    /// Lake or server.
    #[command(flatten)]
    pub at: Where,
    /// Month, UTC
    #[arg(long, value_name = "YYYY-MM")]
    pub period: String,
    /// Only this team
    #[arg(long)]
    pub team: Option<String>,
    /// Dimensions of the report costs, comma-separated [default: team,model]
    #[arg(long, value_name = "DIMENSIONS", value_delimiter = ',')]
    pub by: Vec<String>,
    /// Only where DIMENSION=VALUE; may be repeated
    #[arg(long = "where", value_name = "DIMENSION=VALUE")]
    pub filters: Vec<String>,
    /// Format [default: markdown; of focus: csv]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// File to write; standard output where absent
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
