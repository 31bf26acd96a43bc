//! Who may send: credential, scope, origin and rate of a request, before any of its body is read.
//!
//! `origin of ours → known credential → telemetry:write → within its tenant's rate`. The same for gRPC and HTTP.
//! The tenant of the credential is the tenant of the rows: nothing in the request can name another.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, header};
use spanledger_access::chain;
use spanledger_access::challenge::Challenges;
use spanledger_access::origin::Names;
use spanledger_access::rates::{Rates, Strangers, refusal_pause};
use spanledger_access::{AccessError, Principal, Scope, Scopes, SharedAuthenticator};

use crate::error::{Error, ErrorKind, Result};

/// A key where a sender cannot set `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Path that challenges are written for: the receivers are one resource, whatever prefix a sender uses.
const RESOURCE: &str = "/v1";

/// The components that decide who may send.
#[derive(Debug, Clone)]
pub struct Door {
    authenticator: SharedAuthenticator,
    names: Names,
    challenges: Challenges,
    requests: Option<Rates>,
    bytes: Option<Rates>,
    strangers: Option<Strangers>,
}

impl From<SharedAuthenticator> for Door {
    /// Pages of this machine only, and no limit by tenant.
    fn from(authenticator: SharedAuthenticator) -> Self {
        Self {
            authenticator,
            names: Names::local(),
            challenges: Challenges::none(),
            requests: None,
            bytes: None,
            strangers: None,
        }
    }
}

impl Door {
    /// The same for a server that has these names, and that tells refused senders this.
    #[must_use]
    pub fn with_names(self, names: Names, challenges: Challenges) -> Self {
        Self {
            names,
            challenges,
            ..self
        }
    }

    /// The same, which lets a tenant send so many requests, and bytes of bodies as they come over the wire.
    #[must_use]
    pub fn with_rates(self, requests: Rates, bytes: Rates) -> Self {
        Self {
            requests: Some(requests),
            bytes: Some(bytes),
            ..self
        }
    }

    /// The same, which answers refused credentials slowly where there are many.
    #[must_use]
    pub fn with_strangers(self, strangers: Strangers) -> Self {
        Self {
            strangers: Some(strangers),
            ..self
        }
    }

    /// Whose rows the request will be.
    ///
    /// # Errors
    /// Unauthenticated, Forbidden, Busy where the credential cannot be checked now, `RateLimited`.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<Principal> {
        let is_foreign =
            |origin: &axum::http::HeaderValue| !origin.to_str().is_ok_and(|origin| self.names.allow_origin(origin));
        if headers.get(header::ORIGIN).is_some_and(is_foreign) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "this page's origin may not write telemetry here",
            ));
        }
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let authorization = chain::authorization(text(&header::AUTHORIZATION), text(&API_KEY));
        let mut identified = self.identify(authorization.as_deref()).await;
        if let Some(strangers) = &self.strangers {
            identified = strangers.hold_back(identified).await;
        }
        let principal = identified.map_err(|error| self.refusal(authorization.as_ref(), error))?;
        if let Err(refused) = within(self.requests.as_ref(), &principal, 1) {
            tokio::time::sleep(refusal_pause()).await;
            return Err(refused);
        }
        Ok(principal)
    }

    /// Takes the bytes of a body from what its tenant may send.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(crate) fn take_bytes(&self, principal: &Principal, n_bytes: usize) -> Result<()> {
        within(self.bytes.as_ref(), principal, n_bytes as u64)
    }

    async fn identify(&self, authorization: Option<&str>) -> Result<Principal, AccessError> {
        let principal = self.authenticator.authenticate(authorization).await?;
        principal.require(Scopes::of(&[Scope::TelemetryWrite]))?;
        Ok(principal)
    }

    fn refusal(&self, credential: Option<&Cow<'_, str>>, error: AccessError) -> Error {
        let challenge = match &error {
            AccessError::Unauthenticated(_) => {
                let needed = Scopes::of(&[Scope::TelemetryWrite]);
                Some(
                    self.challenges
                        .unauthenticated_for(RESOURCE, credential.is_some(), needed),
                )
            }
            error => self.challenges.of(RESOURCE, credential.is_some(), error),
        };
        Error::from(error).with_challenge(challenge)
    }
}

fn within(rates: Option<&Rates>, principal: &Principal, amount: u64) -> Result<()> {
    match rates.map(|rates| rates.take(principal.tenant(), amount)) {
        Some(Err(wait)) => Err(Error::rate_limited(wait)),
        _ => Ok(()),
    }
}
