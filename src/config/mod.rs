//! Settings: flag over environment over file over default, each with the place its value came from.
//!
//! Read once at start by every command; plain data afterwards. A key that is not known, in a section that
//! is not known, is an error, so that a misspelt limit is not silently the default. Clock, store and
//! authenticator are components, not settings, and secrets are not kept here.

mod access;
mod limits;
mod mcp;
mod resolve;
mod retention;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use spanledger_ingest::Limits;
use spanledger_ingest::noise::{NoiseRule, NoiseRules};
use spanledger_ledger::attribution::Policy;
use spanledger_ledger::prices::CostOrder;

pub use access::{Access, AccessMode};
use access::{FileAccess, FileRoles};
use limits::FileLimits;
pub use limits::TenantLimits;
use mcp::FileMcp;
pub use mcp::Mcp;
pub use resolve::{Origin, Paths, Resolver, Setting};
use retention::FileRetention;
pub use retention::Retention;

use crate::exit::{Kind, fail};

/// Beside the place the command is run from, so that trying it out leaves one folder to delete.
pub const DATA_DEFAULT: &str = "./spanledger-data";
/// Apart from real data: the demo starts fresh and deletes it.
pub const DEMO_DATA_DEFAULT: &str = "./spanledger-demo-data";
/// Loopback, because there is no login; 8080 as most local HTTP tools.
pub const HTTP_DEFAULT: SocketAddr = loopback(8080);
/// The port that OpenTelemetry registers for OTLP over gRPC.
pub const OTLP_GRPC_DEFAULT: SocketAddr = loopback(4317);
/// The port that OpenTelemetry registers for OTLP over HTTP.
pub const OTLP_HTTP_DEFAULT: SocketAddr = loopback(4318);
/// 64 MiB after decompression, as the OTLP specification recommends.
pub const BODY_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;
/// Two seconds: a query of committed files is that far behind at most, and files stay few.
pub const FLUSH_INTERVAL_MS_DEFAULT: u64 = 2_000;
/// 64 MiB of hot Arrow: one flush fits beside a query in a small container.
pub const SEAL_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;
/// 2 ms: one fsync serves every request of the window, and the wait is below that of the fsync itself.
pub const GROUP_COMMIT_WINDOW_US_DEFAULT: u64 = 2_000;
/// Warnings only: the start-up screen is the output.
pub const LOG_FILTER_DEFAULT: &str = "warn";
/// File read where `--config` names none.
pub const CONFIG_FILE_DEFAULT: &str = "spanledger.toml";

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where data is kept.
    pub storage: Storage,
    /// Dashboard, REST, MCP, health and metrics.
    pub http: Http,
    /// OTLP receivers.
    pub otlp: Otlp,
    /// The lake's tempo.
    pub lake: Lake,
    /// How long each table is kept.
    pub retention: Retention,
    /// The user's noise rules, asked before the built-in ones.
    pub noise: Setting<Vec<NoiseRule>>,
    /// The user's own dialects.
    pub dialects: Dialects,
    /// Which cost of a call is charged.
    pub cost: Cost,
    /// Whose calls are.
    pub allocation: Allocation,
    /// Who may do what.
    pub access: Access,
    /// What one tenant may send and ask.
    pub limits: TenantLimits,
    /// Tasks of the MCP server.
    pub mcp: Mcp,
    /// Our own logs.
    pub log: Log,
}

/// `[storage]`
#[derive(Debug, Clone)]
pub struct Storage {
    /// Data folder.
    pub data: Setting<PathBuf>,
    /// The tenant that commands ask about where no credential names one.
    pub tenant: Setting<String>,
}

/// `[http]`
#[derive(Debug, Clone)]
pub struct Http {
    /// Address; port 0 picks one.
    pub address: Setting<SocketAddr>,
    /// The server's URL as its clients see it, behind a proxy; empty: as it is bound.
    pub public_url: Setting<String>,
}

/// `[otlp]`
#[derive(Debug, Clone)]
pub struct Otlp {
    /// gRPC address; port 0 picks one.
    pub grpc: Setting<SocketAddr>,
    /// HTTP address; port 0 picks one.
    pub http: Setting<SocketAddr>,
    /// Largest request body after decompression, in bytes.
    pub body_bytes_max: Setting<usize>,
}

/// `[lake]`
#[derive(Debug, Clone)]
pub struct Lake {
    /// Time between flushes to Parquet.
    pub flush_interval_ms: Setting<u64>,
    /// Size of the hot buffer that forces a flush.
    pub seal_bytes_max: Setting<usize>,
    /// How long a WAL append waits for others before its fsync.
    pub group_commit_window_us: Setting<u64>,
}

/// `[dialects]`
#[derive(Debug, Clone)]
pub struct Dialects {
    /// Files that add or replace dialects; a folder among them stands for its `.toml` files.
    pub files: Setting<Paths>,
    /// A folder of such files.
    pub folder: Setting<Paths>,
}

/// `[cost]`
#[derive(Debug, Clone)]
pub struct Cost {
    /// The order of contract price, reported cost and list price: the first that is known is charged.
    pub source: Setting<CostOrder>,
    /// How the input cost of a call is divided among what it sent.
    pub attribution: Setting<Policy>,
}

/// `[allocation]`
#[derive(Debug, Clone)]
pub struct Allocation {
    /// Files of rules and shared costs, taken in when a process that settles starts.
    pub files: Setting<Paths>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Filter in the syntax of `RUST_LOG`.
    pub filter: Setting<String>,
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--log`
    pub log: Option<String>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--tenant`
    pub tenant: Option<String>,
    /// `--http`
    pub http: Option<SocketAddr>,
    /// `--otlp-grpc`
    pub otlp_grpc: Option<SocketAddr>,
    /// `--otlp-http`
    pub otlp_http: Option<SocketAddr>,
    /// `--access`
    pub access: Option<AccessMode>,
    /// `--public-url`
    pub public_url: Option<String>,
    /// `--conformance-fixtures`
    pub conformance_fixtures: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    storage: FileStorage,
    http: FileHttp,
    otlp: FileOtlp,
    lake: FileLake,
    retention: FileRetention,
    noise: Vec<NoiseRule>,
    dialects: FileDialects,
    cost: FileCost,
    allocation: FileAllocation,
    access: FileAccess,
    roles: FileRoles,
    limits: FileLimits,
    mcp: FileMcp,
    log: FileLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileStorage {
    data: Option<PathBuf>,
    tenant: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileHttp {
    address: Option<SocketAddr>,
    public_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileOtlp {
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    body_bytes_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLake {
    flush_interval_ms: Option<u64>,
    seal_bytes_max: Option<usize>,
    group_commit_window_us: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileDialects {
    files: Option<Vec<PathBuf>>,
    folder: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileCost {
    source: Option<Vec<String>>,
    attribution: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileAllocation {
    files: Option<Vec<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLog {
    filter: Option<String>,
}

/// One line of `config show`.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// `section.key`
    pub key: &'static str,
    /// Its value as text.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
    /// Environment variable that sets it.
    pub env: &'static str,
}

impl Config {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// Kind invalid where the file or a variable cannot be read, naming it and the key.
    pub fn load(flags: Flags) -> anyhow::Result<Self> {
        let (file, path) = match &flags.config {
            Some(path) => (read(path)?, path.clone()),
            None if Path::new(CONFIG_FILE_DEFAULT).is_file() => {
                let path = PathBuf::from(CONFIG_FILE_DEFAULT);
                (read(&path)?, path)
            }
            None => (FileConfig::default(), PathBuf::from(CONFIG_FILE_DEFAULT)),
        };
        Self::resolve(flags, file, &Resolver::new(path, |name| std::env::var(name).ok()))
    }

    fn resolve(flags: Flags, file: FileConfig, from: &Resolver) -> anyhow::Result<Self> {
        Ok(Self {
            storage: Storage {
                data: from.pick(
                    "storage.data",
                    "SPANLEDGER_DATA",
                    flags.data,
                    file.storage.data,
                    DATA_DEFAULT.into(),
                )?,
                tenant: from.pick(
                    "storage.tenant",
                    "SPANLEDGER_TENANT",
                    flags.tenant,
                    file.storage.tenant,
                    spanledger_access::DEFAULT_TENANT.to_owned(),
                )?,
            },
            http: Http {
                address: from.pick(
                    "http.address",
                    "SPANLEDGER_HTTP",
                    flags.http,
                    file.http.address,
                    HTTP_DEFAULT,
                )?,
                public_url: from.pick(
                    "http.public_url",
                    "SPANLEDGER_PUBLIC_URL",
                    flags.public_url,
                    file.http.public_url,
                    String::new(),
                )?,
            },
            otlp: Otlp {
                grpc: from.pick(
                    "otlp.grpc",
                    "SPANLEDGER_OTLP_GRPC",
                    flags.otlp_grpc,
                    file.otlp.grpc,
                    OTLP_GRPC_DEFAULT,
                )?,
                http: from.pick(
                    "otlp.http",
                    "SPANLEDGER_OTLP_HTTP",
                    flags.otlp_http,
                    file.otlp.http,
                    OTLP_HTTP_DEFAULT,
                )?,
                body_bytes_max: from.pick(
                    "otlp.body_bytes_max",
                    "SPANLEDGER_OTLP_BODY_BYTES_MAX",
                    None,
                    file.otlp.body_bytes_max,
                    BODY_BYTES_MAX_DEFAULT,
                )?,
            },
            lake: Lake {
                flush_interval_ms: from.pick(
                    "lake.flush_interval_ms",
                    "SPANLEDGER_LAKE_FLUSH_INTERVAL_MS",
                    None,
                    file.lake.flush_interval_ms,
                    FLUSH_INTERVAL_MS_DEFAULT,
                )?,
                seal_bytes_max: from.pick(
                    "lake.seal_bytes_max",
                    "SPANLEDGER_LAKE_SEAL_BYTES_MAX",
                    None,
                    file.lake.seal_bytes_max,
                    SEAL_BYTES_MAX_DEFAULT,
                )?,
                group_commit_window_us: from.pick(
                    "lake.group_commit_window_us",
                    "SPANLEDGER_LAKE_GROUP_COMMIT_WINDOW_US",
                    None,
                    file.lake.group_commit_window_us,
                    GROUP_COMMIT_WINDOW_US_DEFAULT,
                )?,
            },
            retention: Retention::resolve(&file.retention, from)?,
            noise: from.of_file(file.noise),
            dialects: Dialects {
                files: from.pick(
                    "dialects.files",
                    "SPANLEDGER_DIALECTS",
                    None,
                    file.dialects.files.map(|files| from.beside_file(files)),
                    Paths::default(),
                )?,
                folder: from.pick(
                    "dialects.folder",
                    "SPANLEDGER_DIALECTS_FOLDER",
                    None,
                    file.dialects.folder.map(|folder| from.beside_file(vec![folder])),
                    Paths::default(),
                )?,
            },
            cost: Cost {
                source: from.pick(
                    "cost.source",
                    "SPANLEDGER_COST_SOURCE",
                    None,
                    file.cost.source.map(|names| cost_order(&names)).transpose()?,
                    CostOrder::default(),
                )?,
                attribution: from.pick(
                    "cost.attribution",
                    "SPANLEDGER_COST_ATTRIBUTION",
                    None,
                    file.cost.attribution.map(|name| policy(&name)).transpose()?,
                    Policy::default(),
                )?,
            },
            allocation: Allocation {
                files: from.pick(
                    "allocation.files",
                    "SPANLEDGER_ALLOCATION",
                    None,
                    file.allocation.files.map(|files| from.beside_file(files)),
                    Paths::default(),
                )?,
            },
            access: Access::resolve(flags.access, file.access, file.roles, from)?,
            limits: TenantLimits::resolve(&file.limits, from)?,
            mcp: Mcp {
                conformance_fixtures: flags.conformance_fixtures,
                ..Mcp::resolve(&file.mcp, from)?
            },
            log: Log {
                filter: from.log_filter(flags.log, file.log.filter)?,
            },
        })
    }

    /// Replaces the default data folder; what flag, environment or file say stays.
    pub fn default_data(&mut self, folder: &str) {
        if self.storage.data.origin == Origin::Default {
            self.storage.data.value = PathBuf::from(folder);
        }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.storage.data.value
    }

    /// The tenant that a command on a folder is about.
    ///
    /// # Errors
    /// Kind invalid for what can name no tenant.
    pub fn tenant(&self) -> anyhow::Result<&str> {
        let tenant = self.storage.tenant.value.as_str();
        if spanledger_access::keys::is_tenant(tenant) {
            return Ok(tenant);
        }
        Err(fail(
            Kind::Invalid,
            format!("{tenant:?} is no tenant: it is a name of letters, digits, '-', '_' and '.'"),
        ))
    }

    /// Whoever can read the folder, as a reader of the tenant that a command is about.
    ///
    /// # Errors
    /// As [`Self::tenant`].
    pub fn principal(&self) -> anyhow::Result<spanledger_access::Principal> {
        Ok(spanledger_access::Principal::local_of(self.tenant()?))
    }

    /// The server's URL as its clients see it, without a slash at the end, where one is set.
    pub fn public_url(&self) -> Option<&str> {
        let url = self.http.public_url.value.trim_end_matches('/');
        (!url.is_empty()).then_some(url)
    }

    /// The limits of ingest, with the noise rules.
    ///
    /// # Errors
    /// Kind invalid for a noise rule that cannot be used.
    pub fn ingest_limits(&self) -> anyhow::Result<Limits> {
        let noise = NoiseRules::with(&self.noise.value).map_err(|error| fail(Kind::Invalid, error.message()))?;
        Ok(Limits {
            body_bytes_max: self.otlp.body_bytes_max.value,
            noise,
            ..Limits::default()
        })
    }

    /// Every setting, for `config show`.
    pub fn show(&self) -> Vec<Shown> {
        let mut lines = vec![
            shown("storage.data", "SPANLEDGER_DATA", &self.storage.data, |path| {
                path.display().to_string()
            }),
            shown(
                "storage.tenant",
                "SPANLEDGER_TENANT",
                &self.storage.tenant,
                Clone::clone,
            ),
            shown(
                "http.address",
                "SPANLEDGER_HTTP",
                &self.http.address,
                ToString::to_string,
            ),
            shown(
                "http.public_url",
                "SPANLEDGER_PUBLIC_URL",
                &self.http.public_url,
                Clone::clone,
            ),
            shown(
                "otlp.grpc",
                "SPANLEDGER_OTLP_GRPC",
                &self.otlp.grpc,
                ToString::to_string,
            ),
            shown(
                "otlp.http",
                "SPANLEDGER_OTLP_HTTP",
                &self.otlp.http,
                ToString::to_string,
            ),
            shown(
                "otlp.body_bytes_max",
                "SPANLEDGER_OTLP_BODY_BYTES_MAX",
                &self.otlp.body_bytes_max,
                ToString::to_string,
            ),
            shown(
                "lake.flush_interval_ms",
                "SPANLEDGER_LAKE_FLUSH_INTERVAL_MS",
                &self.lake.flush_interval_ms,
                ToString::to_string,
            ),
            shown(
                "lake.seal_bytes_max",
                "SPANLEDGER_LAKE_SEAL_BYTES_MAX",
                &self.lake.seal_bytes_max,
                ToString::to_string,
            ),
            shown(
                "lake.group_commit_window_us",
                "SPANLEDGER_LAKE_GROUP_COMMIT_WINDOW_US",
                &self.lake.group_commit_window_us,
                ToString::to_string,
            ),
            shown(
                "dialects.files",
                "SPANLEDGER_DIALECTS",
                &self.dialects.files,
                ToString::to_string,
            ),
            shown(
                "dialects.folder",
                "SPANLEDGER_DIALECTS_FOLDER",
                &self.dialects.folder,
                ToString::to_string,
            ),
            shown(
                "cost.source",
                "SPANLEDGER_COST_SOURCE",
                &self.cost.source,
                ToString::to_string,
            ),
            shown(
                "cost.attribution",
                "SPANLEDGER_COST_ATTRIBUTION",
                &self.cost.attribution,
                ToString::to_string,
            ),
            shown(
                "allocation.files",
                "SPANLEDGER_ALLOCATION",
                &self.allocation.files,
                ToString::to_string,
            ),
            shown("log.filter", "SPANLEDGER_LOG", &self.log.filter, Clone::clone),
        ];
        lines.extend(self.access.show());
        lines.extend(self.limits.show());
        lines.extend(self.mcp.show());
        lines.extend(self.retention.show());
        lines.push(retention::show_noise(&self.noise));
        lines
    }

    /// What cannot be used although it can be read, each with the next step.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, address) in [
            ("http.address", &self.http.address),
            ("otlp.grpc", &self.otlp.grpc),
            ("otlp.http", &self.otlp.http),
        ] {
            if let Err(refused) = self.reachable(key, address.value) {
                problems.push(refused.to_string());
            }
        }
        problems.extend(self.tenant().err().map(|problem| problem.to_string()));
        problems.extend(self.access.problems());
        problems.extend(access::public_url_problem(&self.http.public_url.value));
        let addresses = [&self.http.address, &self.otlp.grpc, &self.otlp.http];
        for (index, address) in addresses.iter().enumerate() {
            if address.value.port() != 0 && addresses[..index].iter().any(|other| other.value == address.value) {
                problems.push(format!(
                    "{} is set for two receivers; give each its own port",
                    address.value
                ));
            }
        }
        if let Err(problem) = crate::dialects::registry(self) {
            problems.push(problem.to_string());
        }
        for path in &self.allocation.files.value.0 {
            if let Err(problem) = crate::allocation::read(path, None) {
                problems.push(problem.to_string());
            }
        }
        if self.otlp.body_bytes_max.value == 0 {
            problems.push("otlp.body_bytes_max = 0 would refuse every request; the default is 67108864".to_owned());
        }
        if self.lake.flush_interval_ms.value == 0 {
            problems.push("lake.flush_interval_ms = 0 would write a file a request; the default is 2000".to_owned());
        }
        problems.extend(retention::problems(&self.retention, &self.noise.value));
        problems
    }

    /// Refuses an address that others can reach, unless a credential is required of them.
    fn reachable(&self, setting: &str, address: SocketAddr) -> Result<(), spanledger_access::AccessError> {
        if self.access.is_required() {
            return Ok(());
        }
        spanledger_access::require_loopback(setting, address)
    }

    /// The settings, where all of them can be used.
    ///
    /// # Errors
    /// The first of [`Self::problems`]; kind denied for a public address, invalid for the rest.
    pub fn usable(self) -> anyhow::Result<Self> {
        for (key, address) in [
            ("--http", &self.http.address),
            ("--otlp-grpc", &self.otlp.grpc),
            ("--otlp-http", &self.otlp.http),
        ] {
            self.reachable(key, address.value)?;
        }
        if self.mcp.conformance_fixtures && !self.http.address.value.ip().is_loopback() {
            let message = "--conformance-fixtures is for a loopback address only; use --http 127.0.0.1:0";
            return Err(fail(Kind::Denied, message));
        }
        match self.problems().into_iter().next() {
            Some(problem) => Err(fail(Kind::Invalid, problem)),
            None => Ok(self),
        }
    }
}

fn shown<T>(key: &'static str, env: &'static str, setting: &Setting<T>, text: impl Fn(&T) -> String) -> Shown {
    Shown {
        key,
        value: text(&setting.value),
        origin: setting.origin.clone(),
        env,
    }
}

fn read(path: &Path) -> anyhow::Result<FileConfig> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        fail(
            Kind::Invalid,
            format!("cannot read the configuration file {}: {error}", path.display()),
        )
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> anyhow::Result<FileConfig> {
    toml::from_str(text).map_err(|error| {
        let text = error.to_string();
        fail(
            Kind::Invalid,
            format!(
                "cannot use the configuration file {}: {}",
                path.display(),
                text.trim_end()
            ),
        )
    })
}

/// The order of costs as the file states it.
fn cost_order(names: &[String]) -> anyhow::Result<CostOrder> {
    let order = names.join(",").parse();
    order.map_err(|error| fail(Kind::Invalid, format!("cost.source: {error}")))
}

/// The division of costs as the file states it.
fn policy(name: &str) -> anyhow::Result<Policy> {
    name.parse()
        .map_err(|error| fail(Kind::Invalid, format!("cost.attribution: {error}")))
}

#[cfg(test)]
mod tests;
