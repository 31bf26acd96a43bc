//! `[access]` and `[roles.NAME]`: whether a credential is needed, which roles there are, which issuers' tokens are
//! taken, how long the audit log is kept. What a role or an issuer may be is decided by the crate `access`.
//!
//! No secret is a setting here: API keys are made by `spanledger keys create`, and the secret of an introspection
//! client is named by a variable or a file.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use spanledger_access::audit::RETENTION_DAYS_DEFAULT;
use spanledger_access::oauth::OAuthSettings;
use spanledger_access::roles::{RoleSettings, Roles};

use super::resolve::{Resolver, Setting};
use super::{Shown, shown};

/// Whether a request needs a credential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// No login: everyone who can reach the loopback address may do everything (the default)
    #[default]
    None,
    /// Every request needs an API key or a token
    Required,
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Required => "required",
        })
    }
}

impl FromStr for AccessMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "required" => Ok(Self::Required),
            _ => Err("it is `none` or `required`".to_owned()),
        }
    }
}

/// `[access]` and `[roles.NAME]`
#[derive(Debug, Clone)]
pub struct Access {
    /// Whether a request needs a credential.
    pub mode: Setting<AccessMode>,
    /// Days that an entry of the audit log is kept.
    pub audit_retention_days: Setting<u32>,
    /// Issuers whose tokens are taken.
    pub oauth: Setting<OAuthSettings>,
    /// Roles beside the built-in ones.
    pub roles: Setting<BTreeMap<String, RoleSettings>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileAccess {
    mode: Option<AccessMode>,
    audit_retention_days: Option<u32>,
    oauth: Option<OAuthSettings>,
}

/// `[roles.NAME]` of the file.
pub(super) type FileRoles = BTreeMap<String, RoleSettings>;

const MODE: (&str, &str) = ("access.mode", "SPANLEDGER_ACCESS");
const AUDIT_DAYS: (&str, &str) = ("access.audit_retention_days", "SPANLEDGER_ACCESS_AUDIT_RETENTION_DAYS");

impl Access {
    pub(super) fn resolve(
        flag: Option<AccessMode>,
        file: FileAccess,
        roles: FileRoles,
        from: &Resolver,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            mode: from.pick(MODE.0, MODE.1, flag, file.mode, AccessMode::default())?,
            audit_retention_days: from.pick(
                AUDIT_DAYS.0,
                AUDIT_DAYS.1,
                None,
                file.audit_retention_days,
                RETENTION_DAYS_DEFAULT,
            )?,
            oauth: from.of_file_or_default(file.oauth),
            roles: from.of_file_or_default(Some(roles).filter(|roles| !roles.is_empty())),
        })
    }

    /// True where a request needs a credential.
    pub fn is_required(&self) -> bool {
        self.mode.value == AccessMode::Required
    }

    /// The built-in roles and those of the file.
    ///
    /// # Errors
    /// Kind invalid, naming the role.
    pub fn roles(&self) -> anyhow::Result<Roles> {
        Ok(Roles::with(&self.roles.value)?)
    }

    pub(super) fn show(&self) -> Vec<Shown> {
        vec![
            shown(MODE.0, MODE.1, &self.mode, ToString::to_string),
            shown(
                AUDIT_DAYS.0,
                AUDIT_DAYS.1,
                &self.audit_retention_days,
                ToString::to_string,
            ),
            shown("access.oauth", "", &self.oauth, |oauth| {
                let issuers: Vec<&str> = oauth.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
                issuers.join(", ")
            }),
            shown("roles", "", &self.roles, |roles| {
                let names: Vec<&str> = roles.keys().map(String::as_str).chain(["built-in roles"]).collect();
                names.join(", ")
            }),
        ]
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.oauth.value.problems();
        match Roles::with(&self.roles.value) {
            Err(problem) => problems.push(format!("roles: {problem}")),
            Ok(roles) => {
                let unknown = self
                    .oauth
                    .value
                    .role_names()
                    .filter_map(|name| roles.require(name).err());
                problems.extend(unknown.map(|problem| format!("access.oauth: {problem}")));
            }
        }
        if !self.oauth.value.is_empty() && !self.is_required() {
            problems.push(
                "access.oauth names issuers, and access.mode = none checks no credential; set access.mode = \"required\""
                    .to_owned(),
            );
        }
        if self.audit_retention_days.value == 0 {
            problems.push(format!(
                "access.audit_retention_days = 0 would keep no entry; the default is {RETENTION_DAYS_DEFAULT}"
            ));
        }
        problems
    }
}

/// What is wrong with `http.public_url`; empty is not set.
pub(super) fn public_url_problem(url: &str) -> Option<String> {
    if url.is_empty() {
        return None;
    }
    let parsed = reqwest::Url::parse(url).ok();
    let is_plain = parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    (!is_plain).then(|| {
        "http.public_url is no address that clients can use; write it as they see it, such as https://spanledger.example.com".to_owned()
    })
}
