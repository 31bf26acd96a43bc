//! Command lines of `keys …` and `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::admin::ReportFormat;
use crate::output::RowFormat;

const CREATE_EXAMPLES: &str = "\
Examples:
  spanledger keys create --role admin                                 the first key of a server with --access required
  spanledger keys create --role ingest --name collector               for OTLP senders: it writes and reads nothing
  spanledger keys create --role analyst --team search --expires 90d   sees the rows of one team
  spanledger keys create --role viewer --tenant acme --format json
Roles: ingest, viewer, analyst, finops, auditor, admin, and those under [roles.NAME] of the configuration.
The key is shown once. Send it as `Authorization: Bearer sl_…`; commands with --url take it from SPANLEDGER_API_KEY.
Works beside a running server, which knows the key at once. docs/access.md tells more.";

const LIST_EXAMPLES: &str = "\
Examples:
  spanledger keys list
  spanledger keys list --tenant acme --format json";

const REVOKE_EXAMPLES: &str = "\
Examples:
  spanledger keys revoke 4kX9aB21cD3e      a running server refuses it within a second";

const AUDIT_EXAMPLES: &str = "\
Examples:
  spanledger audit                              the newest entries of the tenant `default`
  spanledger audit --since 7d --outcome denied
  spanledger audit --action key.create --format json
  spanledger audit --tenant acme --subject 4kX9aB21cD3e --limit 1000 --format csv";

/// `keys …`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make an API key and show it, once
    #[command(after_help = CREATE_EXAMPLES)]
    Create(KeysCreateArgs),
    /// List keys: id, role, last use, never the secret
    #[command(after_help = LIST_EXAMPLES)]
    List(KeysListArgs),
    /// Revoke a key by its id
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(KeysRevokeArgs),
}

impl KeysCommand {
    /// The data folder it names.
    pub fn data(&self) -> Option<&PathBuf> {
        match self {
            Self::Create(args) => args.data.as_ref(),
            Self::List(args) => args.data.as_ref(),
            Self::Revoke(args) => args.data.as_ref(),
        }
    }

    /// The tenant it makes something for.
    pub fn tenant(&self) -> Option<&String> {
        match self {
            Self::Create(args) => args.tenant.as_ref(),
            Self::List(_) | Self::Revoke(_) => None,
        }
    }
}

/// `keys create`.
#[derive(Debug, Clone, Args)]
pub struct KeysCreateArgs {
    /// What the key may do: a role
    #[arg(long)]
    pub role: String,
    /// What to call it in lists [default: the role]
    #[arg(long)]
    pub name: Option<String>,
    /// Whose data it opens [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only rows of this team; may be repeated
    #[arg(long = "team", value_name = "TEAM")]
    pub teams: Vec<String>,
    /// Only rows of this project; may be repeated
    #[arg(long = "project", value_name = "PROJECT")]
    pub projects: Vec<String>,
    /// Only rows of this environment; may be repeated
    #[arg(long = "environment", value_name = "ENVIRONMENT")]
    pub environments: Vec<String>,
    /// Ends after this time, such as 90d or 12h, or at a date [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
}

/// `keys list`.
#[derive(Debug, Clone, Args)]
pub struct KeysListArgs {
    /// Only keys of this tenant [default: of all]
    #[arg(long)]
    pub tenant: Option<String>,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}

/// `keys revoke`.
#[derive(Debug, Clone, Args)]
pub struct KeysRevokeArgs {
    /// Id of the key, as `keys list` shows it
    pub id: String,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
}

/// `audit`.
#[derive(Debug, Clone, Args)]
#[command(after_help = AUDIT_EXAMPLES)]
pub struct AuditArgs {
    /// Entries since: an age (7d, 12h), a date or an RFC 3339 instant
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Entries until, exclusive
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only of this subject: a key's id, a token's `sub`
    #[arg(long)]
    pub subject: Option<String>,
    /// Only with this action, such as key.create
    #[arg(long)]
    pub action: Option<String>,
    /// Only with this outcome: ok, denied, failed, or asked (the entry before a change)
    #[arg(long)]
    pub outcome: Option<String>,
    /// Whose entries [env: SPANLEDGER_TENANT] [default: default]
    #[arg(long)]
    pub tenant: Option<String>,
    /// Entries at most, newest first
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// Data folder [env: SPANLEDGER_DATA] [default: ./spanledger-data]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    pub format: RowFormat,
}
