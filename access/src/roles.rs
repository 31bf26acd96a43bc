//! Roles: named sets of scopes with a row filter, which keys and tokens are given.
//!
//! Six are built in; a configuration adds its own under `[roles.NAME]`. A credential has one role, so its
//! scopes and its rows always come from the same line of configuration.
//!
//! Guarantee: a role that is not known gives nothing, and no role can both hold `admin` and be confined to
//! rows, because an administrator could make a key without the confinement.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::{AccessError, RowFilter, Scope, Scopes};

/// Longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The built-in roles and their scopes.
const BUILT_IN: [(&str, &[Scope]); 6] = [
    ("ingest", &[Scope::TelemetryWrite]),
    ("viewer", &[Scope::CostsRead]),
    ("analyst", &[Scope::CostsRead, Scope::SqlRead]),
    ("finops", &[Scope::CostsRead, Scope::SqlRead, Scope::FinopsWrite]),
    ("auditor", &[Scope::CostsRead, Scope::SqlRead, Scope::PayloadsRead]),
    ("admin", &[Scope::Admin]),
];

/// What a role allows, and which rows it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    name: String,
    scopes: Scopes,
    rows: RowFilter,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Which rows of the tenant it shows.
    #[must_use]
    pub fn rows(&self) -> &RowFilter {
        &self.rows
    }
}

/// `[roles.NAME]` of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// Names of scopes, such as `costs:read`.
    pub scopes: Vec<String>,
    /// Teams whose rows it shows; absent: all.
    pub teams: Option<Vec<String>>,
    /// Projects whose rows it shows; absent: all.
    pub projects: Option<Vec<String>>,
    /// Environments whose rows it shows; absent: all.
    pub environments: Option<Vec<String>>,
}

/// All roles of a server. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Roles(Arc<BTreeMap<String, Role>>);

impl Default for Roles {
    fn default() -> Self {
        Self::built_in()
    }
}

impl Roles {
    /// The built-in roles alone.
    #[must_use]
    pub fn built_in() -> Self {
        let roles = BUILT_IN.iter().map(|(name, scopes)| {
            let role = Role {
                name: (*name).to_owned(),
                scopes: Scopes::of(scopes),
                rows: RowFilter::default(),
            };
            (role.name.clone(), role)
        });
        Self(Arc::new(roles.collect()))
    }

    /// The built-in roles and those of a configuration.
    ///
    /// # Errors
    /// [`AccessError::Invalid`], naming the role: an unknown scope, a built-in name, `admin` with a row filter.
    pub fn with(settings: &BTreeMap<String, RoleSettings>) -> Result<Self, AccessError> {
        let mut roles = Self::built_in().0.as_ref().clone();
        for (name, settings) in settings {
            if roles.contains_key(name) {
                return Err(invalid(name, "is built in; choose another name"));
            }
            roles.insert(name.clone(), role(name, settings)?);
        }
        Ok(Self(Arc::new(roles)))
    }

    /// The role of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Role> {
        self.0.get(name)
    }

    /// The role of this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.get(name)
    }

    /// All roles, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.values()
    }

    /// The role of this name.
    ///
    /// # Errors
    /// [`AccessError::Invalid`], naming the roles there are.
    pub fn require(&self, name: &str) -> Result<&Role, AccessError> {
        self.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            AccessError::Invalid(format!(
                "there is no role {name:?}; roles are {}, and more can be added under [roles.NAME] of the configuration",
                names.join(", ")
            ))
        })
    }
}

fn role(name: &str, settings: &RoleSettings) -> Result<Role, AccessError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
        return Err(invalid(name, "is no name of letters, digits, '-', '_' and '.'"));
    }
    let mut scopes = Vec::with_capacity(settings.scopes.len());
    for text in &settings.scopes {
        scopes.push(
            Scope::parse(text)
                .ok_or_else(|| invalid(name, &format!("names the scope {text:?}; scopes are {}", Scopes::all())))?,
        );
    }
    if scopes.is_empty() {
        return Err(invalid(
            name,
            &format!("has no scopes; give it some of {}", Scopes::all()),
        ));
    }
    let rows = row_filter(
        settings.teams.as_ref(),
        settings.projects.as_ref(),
        settings.environments.as_ref(),
    );
    let role = Role {
        name: name.to_owned(),
        scopes: Scopes::of(&scopes),
        rows,
    };
    confined(&role, &role.rows)?;
    Ok(role)
}

/// A filter of the three lists, each absent where it does not filter.
#[must_use]
pub fn row_filter(
    teams: Option<&Vec<String>>,
    projects: Option<&Vec<String>>,
    environments: Option<&Vec<String>>,
) -> RowFilter {
    let lists = [("team", teams), ("project", projects), ("environment", environments)];
    let conditions = lists
        .into_iter()
        .filter_map(|(column, values)| Some((column.to_owned(), values?.clone())));
    RowFilter::new(conditions).unwrap_or_default()
}

/// Refuses a row filter on a role that could take it off again.
///
/// # Errors
/// [`AccessError::Invalid`].
pub(crate) fn confined(role: &Role, rows: &RowFilter) -> Result<(), AccessError> {
    if role.scopes.has(Scope::Admin) && !rows.is_empty() {
        return Err(invalid(
            &role.name,
            "holds admin, which makes keys for every row; admin cannot be confined to teams, projects or environments",
        ));
    }
    Ok(())
}

fn invalid(name: &str, problem: &str) -> AccessError {
    AccessError::Invalid(format!("the role {name:?} {problem}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(scopes: &[&str], teams: Option<&[&str]>) -> RoleSettings {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        RoleSettings {
            scopes: owned(scopes),
            teams: teams.map(owned),
            ..RoleSettings::default()
        }
    }

    #[test]
    fn built_in_roles_hold_what_their_names_say() {
        let roles = Roles::built_in();
        for (name, scopes) in [
            ("ingest", "telemetry:write"),
            ("viewer", "costs:read"),
            ("analyst", "costs:read sql:read"),
            ("finops", "costs:read sql:read finops:write"),
            ("auditor", "costs:read payloads:read sql:read"),
            (
                "admin",
                "telemetry:write costs:read payloads:read sql:read finops:write admin",
            ),
        ] {
            assert_eq!(roles.get(name).unwrap().scopes().to_string(), scopes, "{name}");
        }
        assert!(roles.get("root").is_none());
        assert!(roles.require("root").unwrap_err().to_string().contains("viewer"));
    }

    #[test]
    fn a_role_of_the_configuration_is_checked() {
        let with = |name: &str, settings: RoleSettings| Roles::with(&BTreeMap::from([(name.to_owned(), settings)]));
        let lead = with("lead", settings(&["sql:read"], Some(&["search"]))).unwrap();
        let rows = lead.get("lead").unwrap().rows().clone();
        assert_eq!(
            rows.conditions().collect::<Vec<_>>(),
            [("team", &["search".to_owned()][..])]
        );
        assert!(lead.get("viewer").is_some());
        for (name, settings, expected) in [
            ("lead", settings(&["sql:raed"], None), "sql:raed"),
            ("lead", settings(&[], None), "no scopes"),
            ("admin", settings(&["costs:read"], None), "built in"),
            ("boss", settings(&["admin"], Some(&["search"])), "cannot be confined"),
            ("a b", settings(&["admin"], None), "no name"),
        ] {
            let error = with(name, settings).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
