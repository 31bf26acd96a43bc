//! Who may do what: principals and the tenant they belong to.
//!
//! Sits between the network and everything else: a request is turned into a [`Principal`] here, and
//! only here is a tenant made from outside input. Without configuration there is one tenant and no
//! login, and therefore [`require_loopback`] refuses any address that another machine could reach.
//!
//! | module | what it holds |
//! |---|---|
//! | [`origin`] | Host and Origin checks against DNS rebinding |

#![forbid(unsafe_code)]

pub mod origin;

use std::net::SocketAddr;
use std::sync::Arc;

use spanledger_model::TenantId;

/// Tenant of a server without credentials.
pub const DEFAULT_TENANT: &str = "default";

/// Who is asking. Every read and every write takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    tenant: TenantId,
}

impl Principal {
    /// The one user of a server without login, reachable over loopback only.
    #[must_use]
    pub fn local() -> Self {
        Self {
            tenant: TenantId::from_credential(DEFAULT_TENANT),
        }
    }

    /// The tenant whose rows this principal writes and reads.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
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
}

/// Turns a request's credential into a principal. A component: receivers take an `Arc` of one.
pub trait Authenticator: Send + Sync + std::fmt::Debug {
    /// The principal of a request with this `Authorization` header.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] where the credential is missing or unknown.
    fn authenticate(&self, authorization: Option<&str>) -> Result<Principal, AccessError>;
}

/// No login: everyone who can reach the loopback address is the local principal.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalOnly;

impl Authenticator for LocalOnly {
    fn authenticate(&self, _authorization: Option<&str>) -> Result<Principal, AccessError> {
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
        "{setting} = {address} can be reached from other machines and this server has no login; use 127.0.0.1 and put an authenticating proxy in front of it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_refused_without_login() {
        assert!(require_loopback("http", SocketAddr::from(([127, 0, 0, 1], 8080))).is_ok());
        let refused = require_loopback("http", SocketAddr::from(([0, 0, 0, 0], 8080)));
        assert!(refused.is_err_and(|error| error.to_string().contains("http = 0.0.0.0:8080")));
    }
}
