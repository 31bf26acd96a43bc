//! Settings of the OAuth resource server: which issuers are believed, and what their claims mean here.
//!
//! Plain data, read from `[access.oauth]` of the configuration. Secrets are not in it: an introspection
//! secret is named by an environment variable or a file. [`OAuthSettings::problems`] says what is wrong
//! before anything is started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::rows;

/// `[access.oauth]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuthSettings {
    /// Authorization servers whose tokens are believed.
    pub issuers: Vec<IssuerSettings>,
    /// Written before each scope in challenges and metadata, and taken off scopes of tokens. Some servers
    /// (Microsoft Entra ID) want `api://APP/costs:read` in requests.
    pub scope_prefix: String,
    /// A page for people about this server's access, in the resource metadata.
    pub documentation: Option<String>,
}

/// One authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Its issuer identifier, exactly as it stands in `iss` of its tokens.
    pub issuer: String,
    /// What `aud` of its tokens may be. Empty: the URLs of this server (public URL, and with `/mcp`).
    #[serde(default)]
    pub audience: Vec<String>,
    /// The tenant of all of its tokens.
    pub tenant: Option<String>,
    /// The claim that names the tenant, instead of `tenant`.
    pub tenant_claim: Option<String>,
    /// Value of `tenant_claim` to tenant. Empty: the value is the tenant. Otherwise others are refused.
    #[serde(default)]
    pub tenants: BTreeMap<String, String>,
    /// The claim that names the role.
    pub role_claim: Option<String>,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// Values of both claims to roles; the first line that matches gives the one role of a token.
    #[serde(default)]
    pub roles: Vec<RoleMapping>,
    /// The role where no claim gives one. Without it such a token is refused if roles are configured.
    pub default_role: Option<String>,
    /// Column (`team`, `project`, `environment`) to the claim that lists the values that are seen.
    #[serde(default)]
    pub row_claims: BTreeMap<String, String>,
    /// Where its keys are, instead of what its metadata says.
    pub jwks_url: Option<String>,
    /// How opaque tokens are asked about. At most one issuer may have it.
    pub introspection: Option<IntrospectionSettings>,
}

/// A group or role of the issuer, and the role here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleMapping {
    /// A value of `role_claim` or `groups_claim`.
    pub value: String,
    /// Name of a role of this server.
    pub role: String,
}

/// RFC 7662: this server as a client of the issuer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionSettings {
    /// The endpoint, instead of what the issuer's metadata says.
    pub url: Option<String>,
    /// Client id of this server.
    pub client_id: String,
    /// Environment variable that holds the client secret.
    pub client_secret_env: Option<String>,
    /// File that holds the client secret.
    pub client_secret_file: Option<PathBuf>,
}

impl OAuthSettings {
    /// True where no issuer is configured: there is no OAuth.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// The names of all roles that it speaks of, for a check against those that exist.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().flat_map(|issuer| {
            let mapped = issuer.roles.iter().map(|mapping| mapping.role.as_str());
            mapped.chain(issuer.default_role.as_deref())
        })
    }

    /// What is wrong with it, each naming the setting and the next step.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for issuer in &self.issuers {
            if !seen.insert(&issuer.issuer) {
                problems.push(format!(
                    "access.oauth names the issuer {} twice; keep one",
                    issuer.issuer
                ));
            }
            issuer.problems(&mut problems);
        }
        if self
            .issuers
            .iter()
            .filter(|issuer| issuer.introspection.is_some())
            .count()
            > 1
        {
            problems.push(
                "access.oauth: an opaque token does not say whose it is, so only one issuer may have introspection"
                    .to_owned(),
            );
        }
        problems
    }
}

impl IssuerSettings {
    /// An issuer whose tokens carry scopes and belong to one tenant.
    #[must_use]
    pub fn of_tenant(issuer: &str, tenant: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: Vec::new(),
            tenant: Some(tenant.to_owned()),
            tenant_claim: None,
            tenants: BTreeMap::new(),
            role_claim: None,
            groups_claim: None,
            roles: Vec::new(),
            default_role: None,
            row_claims: BTreeMap::new(),
            jwks_url: None,
            introspection: None,
        }
    }

    fn problems(&self, problems: &mut Vec<String>) {
        let mut problem = |what: String| problems.push(format!("access.oauth issuer {}: {what}", self.issuer));
        if let Err(why) = checked_url(&self.issuer) {
            problem(why);
        }
        let urls = [
            ("jwks_url", self.jwks_url.as_deref()),
            (
                "introspection.url",
                self.introspection.as_ref().and_then(|settings| settings.url.as_deref()),
            ),
        ];
        for (name, url) in urls {
            if let Some(Err(why)) = url.map(checked_url) {
                problem(format!("{name}: {why}"));
            }
        }
        match (&self.tenant, &self.tenant_claim) {
            (Some(_), Some(_)) => problem("tenant and tenant_claim exclude each other; keep one".to_owned()),
            (None, None) => problem("needs tenant (one for all its tokens) or tenant_claim".to_owned()),
            _ => {}
        }
        for tenant in self.tenant.iter().chain(self.tenants.values()) {
            if !is_tenant_name(tenant) {
                problem(format!(
                    "tenant {tenant:?} is not a name; use 1-{TENANT_BYTES_MAX} letters, digits, '.', '_' or '-'"
                ));
            }
        }
        if !self.tenants.is_empty() && self.tenant_claim.is_none() {
            problem("tenants maps values of tenant_claim, which is not set".to_owned());
        }
        if !self.roles.is_empty() && self.role_claim.is_none() && self.groups_claim.is_none() {
            problem("roles maps values of role_claim or groups_claim, and neither is set".to_owned());
        }
        if self.groups_claim.is_some() && self.roles.is_empty() {
            problem("groups_claim needs roles, which say what role a group has".to_owned());
        }
        for column in self.row_claims.keys() {
            if !rows::COLUMNS.contains(&column.as_str()) {
                problem(format!(
                    "row_claims.{column}: rows can be limited by {} only",
                    rows::COLUMNS.join(", ")
                ));
            }
        }
        if let Some(introspection) = &self.introspection
            && introspection.client_secret_env.is_some() == introspection.client_secret_file.is_some()
        {
            problem("introspection needs one of client_secret_env and client_secret_file".to_owned());
        }
    }
}

/// Longest tenant name, in bytes: it is a folder of the lake and a column.
const TENANT_BYTES_MAX: usize = 64;

/// True where a claim's or a setting's text can be a tenant: it names files too, so nothing that a path reads.
pub(super) fn is_tenant_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= TENANT_BYTES_MAX && name.bytes().all(plain) && !name.starts_with('.')
}

/// Reads a URL that tokens, secrets or keys are sent to or come from: https, or http to this machine.
pub(super) fn checked_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text} is not a URL: {error}"))?;
    let is_local = url.host().is_some_and(|host| match host {
        url::Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    });
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err(format!("{} holds credentials; take them out", hidden(&url)))
        }
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(format!("{text} is not https; only loopback may do without")),
    }
}

fn hidden(url: &Url) -> String {
    url.host_str().unwrap_or("the URL").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let good = IssuerSettings::of_tenant("https://idp.example/realms/a", "acme");
        let check = |change: fn(&mut IssuerSettings), expected: &str| {
            let mut issuer = good.clone();
            change(&mut issuer);
            let settings = OAuthSettings {
                issuers: vec![issuer],
                ..OAuthSettings::default()
            };
            let problems = settings.problems().join("\n");
            assert!(problems.contains(expected), "{expected:?} is not in {problems:?}");
        };
        check(|_| {}, "");
        check(|issuer| issuer.issuer = "http://idp.example".to_owned(), "is not https");
        check(
            |issuer| issuer.issuer = "https://u:secret@idp.example".to_owned(),
            "holds credentials",
        );
        check(|issuer| issuer.tenant = None, "needs tenant");
        check(
            |issuer| issuer.tenant_claim = Some("org".to_owned()),
            "exclude each other",
        );
        check(|issuer| issuer.tenant = Some("../x".to_owned()), "is not a name");
        check(
            |issuer| issuer.groups_claim = Some("groups".to_owned()),
            "groups_claim needs roles",
        );
        check(
            |issuer| issuer.row_claims = [("tenant".to_owned(), "t".to_owned())].into(),
            "row_claims.tenant",
        );
        check(
            |issuer| issuer.jwks_url = Some("ftp://x/".to_owned()),
            "jwks_url: ftp://x/ is not https",
        );
        let none = OAuthSettings {
            issuers: vec![good.clone()],
            ..OAuthSettings::default()
        };
        assert_eq!(none.problems(), Vec::<String>::new());
        assert!(checked_url("http://127.0.0.1:3/x").is_ok() && checked_url("http://[::1]/").is_ok());
        assert!(checked_url("http://127.0.0.1.evil.example/").is_err());
    }
}
