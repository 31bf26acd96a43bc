//! Who may do what: principals and the tenant they belong to.
//!
//! Sits between the network and everything else: a request is turned into a [`Principal`] here, and
//! only here is a tenant made from outside input. Without configuration there is one tenant and no
//! login, and therefore [`require_loopback`] refuses any address that another machine could reach.
//!
//! | module | what it holds |
//! |---|---|
//! | [`scope`] | what may be done |
//! | [`rows`] | which rows of a tenant are seen |
//! | [`routes`] | what each HTTP route needs |
//! | [`oauth`] | tokens of OAuth issuers: keys, signatures, claims, introspection |
//! | [`challenge`] | what a refused client is told, and the resource metadata |
//! | [`origin`] | Host and Origin checks against DNS rebinding |
//! | [`roles`] | named sets of scopes and row filters |
//! | [`keys`], [`sessions`] | API keys, and browser sessions opened with one |
//! | [`chain`] | the authenticator: keys, then tokens |
//! | [`rates`] | how much a tenant may ask in a time |
//! | [`audit`] | who read or changed what |

#![forbid(unsafe_code)]

pub mod audit;
pub mod chain;
pub mod challenge;
pub mod keys;
pub mod oauth;
pub mod origin;
pub mod rates;
pub mod roles;
pub mod routes;
pub mod rows;
pub mod scope;
pub mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use spanledger_model::TenantId;

pub use rows::RowFilter;
pub use scope::{Scope, Scopes};

/// Tenant of a server without credentials.
pub const DEFAULT_TENANT: &str = "default";

/// Who is asking. Every read and every write takes one. Clones are cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    tenant: TenantId,
    issuer: Arc<str>,
    subject: Arc<str>,
    client_id: Option<Arc<str>>,
    credential: Option<Arc<str>>,
    scopes: Scopes,
    rows: RowFilter,
}

/// Issuer of the local principal.
pub const LOCAL_ISSUER: &str = "local";
/// Issuer of principals by API key.
pub const KEY_ISSUER: &str = "spanledger";

impl Principal {
    /// The one user of a server without login, reachable over loopback only.
    #[must_use]
    pub fn local() -> Self {
        Self::local_of(DEFAULT_TENANT)
    }

    /// Whoever can read the files of a data folder, as a reader of one tenant in it. Not for requests.
    #[must_use]
    pub fn local_of(tenant: &str) -> Self {
        Self::new(tenant, LOCAL_ISSUER, LOCAL_ISSUER, Scopes::all())
    }

    /// A principal that a credential was checked for.
    pub(crate) fn new(tenant: &str, issuer: &str, subject: &str, scopes: Scopes) -> Self {
        Self {
            tenant: TenantId::from_credential(tenant),
            issuer: Arc::from(issuer),
            subject: Arc::from(subject),
            client_id: None,
            credential: None,
            scopes,
            rows: RowFilter::default(),
        }
    }

    /// The tenant whose rows this principal writes and reads.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Who vouches for the subject: an OAuth issuer's URL, [`KEY_ISSUER`] or [`LOCAL_ISSUER`].
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who it is, within the issuer: a token's `sub`, a key's id.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The OAuth client that asks for the subject.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The credential itself, by a name that is no secret: a key's id, a token's `jti`.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_deref()
    }

    /// What it may do.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Which rows of its tenant it sees.
    #[must_use]
    pub fn rows(&self) -> &RowFilter {
        &self.rows
    }

    /// True where it may do this.
    #[must_use]
    pub fn can(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }

    /// Demands scopes, all at once, so that one challenge names all that are needed.
    ///
    /// # Errors
    /// [`AccessError::InsufficientScope`].
    pub fn require(&self, needed: Scopes) -> Result<(), AccessError> {
        if self.scopes.has_all(needed) {
            return Ok(());
        }
        Err(AccessError::InsufficientScope { needed })
    }

    /// Who owns what this principal makes (tasks, reports, sessions): issuer, subject, client and tenant, which are
    /// written one after the other with their lengths, so that no two owners are the same text. The row filter belongs
    /// to it: whose view became narrower does not read answers of the wider one.
    #[must_use]
    pub fn owner(&self) -> String {
        let part = |part: &str| format!("{}:{part};", part.len());
        let who = [
            self.issuer(),
            self.subject(),
            self.client_id().unwrap_or(""),
            self.tenant.as_str(),
        ];
        let rows = self.rows.conditions().map(|(column, values)| {
            let values: String = values.iter().map(|value| part(value)).collect();
            format!("{}{}", part(column), part(&values))
        });
        who.into_iter().map(part).chain(rows).collect()
    }

    /// The same principal, asking through this OAuth client.
    #[must_use]
    pub fn with_client_id(self, client_id: Option<&str>) -> Self {
        Self {
            client_id: client_id.map(Arc::from),
            ..self
        }
    }

    /// The same principal, by this credential.
    #[must_use]
    pub fn with_credential(self, credential: Option<&str>) -> Self {
        Self {
            credential: credential.map(Arc::from),
            ..self
        }
    }

    /// The same principal, who sees only the rows that pass.
    #[must_use]
    pub fn with_rows(self, rows: RowFilter) -> Self {
        Self { rows, ..self }
    }

    /// The same principal with fewer scopes: what it has and `scopes` has.
    #[must_use]
    pub fn narrowed_to(self, scopes: Scopes) -> Self {
        Self {
            scopes: self.scopes.and(scopes),
            ..self
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No credential, or one that is not known.
    #[error("{0}")]
    Unauthenticated(String),
    /// The credential does not allow this.
    #[error("{0}")]
    Forbidden(String),
    /// The credential is good, and lacks scopes: a client may ask its user for more (step-up).
    #[error("this needs the scope {needed}; ask for a token or key that has it")]
    InsufficientScope {
        /// All scopes that the request needs.
        needed: Scopes,
    },
    /// The credential cannot be checked now: the issuer or the control state does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked of keys or roles cannot be: an unknown role, a time that is past.
    #[error("{0}")]
    Invalid(String),
}

/// Turns a request's credential into a principal. A component: receivers take an `Arc` of one.
#[async_trait]
pub trait Authenticator: Send + Sync + std::fmt::Debug {
    /// The principal of a request with this `Authorization` header.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] where the credential is missing or unknown.
    async fn authenticate(&self, authorization: Option<&str>) -> Result<Principal, AccessError>;
}

/// No login: everyone who can reach the loopback address is the local principal.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalOnly;

#[async_trait]
impl Authenticator for LocalOnly {
    async fn authenticate(&self, _authorization: Option<&str>) -> Result<Principal, AccessError> {
        Ok(Principal::local())
    }
}

/// A shared authenticator.
pub type SharedAuthenticator = Arc<dyn Authenticator>;

/// Refuses an address that other machines can reach, because there is no login to protect it.
///
/// # Errors
/// [`AccessError::Forbidden`], naming the setting and the next step.
pub fn require_loopback(setting: &str, address: SocketAddr) -> Result<(), AccessError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(AccessError::Forbidden(format!(
        "{setting} = {address} can be reached from other machines and this server has no login; ask for credentials with --access required (and `spanledger keys create --role admin` for the first key), or use 127.0.0.1"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_person_with_a_view() {
        let rows = |teams: &[&str]| {
            let teams = teams.iter().map(|team| (*team).to_owned()).collect();
            RowFilter::new([("team".to_owned(), teams)]).unwrap_or_default()
        };
        let whole = Principal::local();
        let owners: Vec<String> = [
            rows(&["a"]),
            rows(&["b"]),
            rows(&["a", "b"]),
            rows(&["a;1:b"]),
            rows(&[]),
        ]
        .map(|rows| whole.clone().with_rows(rows).owner())
        .into();
        let different: std::collections::BTreeSet<&String> = owners.iter().collect();
        assert_eq!(different.len(), owners.len(), "{owners:?}");
        assert!(!owners.contains(&whole.owner()), "{owners:?}");
    }

    #[test]
    fn a_public_address_is_refused_without_login() {
        assert!(require_loopback("http", SocketAddr::from(([127, 0, 0, 1], 8080))).is_ok());
        let refused = require_loopback("http", SocketAddr::from(([0, 0, 0, 0], 8080)));
        assert!(refused.is_err_and(|error| error.to_string().contains("http = 0.0.0.0:8080")));
    }
}
