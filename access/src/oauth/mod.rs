//! OAuth 2.1 resource server: bearer tokens of configured issuers become principals.
//!
//! ```text
//! token ─ JWT?  ─ header (algorithm, type) ─ issuer by `iss` ─ its keys ─ signature ─┐
//!       └ opaque ─ introspection at the one issuer that has it ──────────────────────┴─ claims ─ Principal
//! ```
//!
//! Guarantees: a token is believed only if a configured issuer signed it (or says that it is active) for
//! this very server and for now; where that cannot be found out the answer is "unavailable", never
//! "allowed". Tokens, claims and secrets are in no log and no error. Only asymmetric signatures count.
//!
//! It does not issue tokens, register clients or pass a token on to anybody but the issuer that introspects.

mod claims;
mod http;
mod introspection;
mod jwks;
mod jwt;
mod metadata;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use spanledger_model::Clock;

pub use settings::{IntrospectionSettings, IssuerSettings, OAuthSettings, RoleMapping};

use crate::chain::TokenVerifier;
use crate::roles::Roles;
use crate::{AccessError, Principal};
use claims::{Reader, refused};
use http::Fetcher;
use introspection::Introspection;
use jwks::Keys;

/// Longest token, in bytes. Entra ID's with 200 groups are about 10 KiB; header lines end at 8-64 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Path of the MCP endpoint, whose URL is a resource of its own.
pub const MCP_PATH: &str = "/mcp";

/// Checks bearer tokens. Clones share the keys.
#[derive(Clone)]
pub struct OAuth {
    inner: Arc<Inner>,
}

struct Inner {
    issuers: Vec<Issuer>,
    resources: Vec<String>,
    scope_prefix: String,
    roles: Roles,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    settings: IssuerSettings,
    keys: Arc<Keys>,
    introspection: Option<Introspection>,
}

impl std::fmt::Debug for OAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let issuers = self.inner.issuers.iter().map(|issuer| &issuer.settings.issuer);
        f.debug_list().entries(issuers).finish()
    }
}

impl OAuth {
    /// A resource server at `public_url` (without a path, as clients write it). Nothing is fetched before
    /// the first token comes.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] for settings that cannot be used, naming the setting.
    pub fn new(
        settings: &OAuthSettings,
        roles: Roles,
        public_url: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AccessError> {
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(AccessError::Invalid(problem));
        }
        if let Some(name) = settings.role_names().find(|name| roles.get(name).is_none()) {
            return Err(AccessError::Invalid(format!(
                "access.oauth names the role {name}, which does not exist; define it or correct the name"
            )));
        }
        let fetcher = Fetcher::new()?;
        let issuers = settings.issuers.iter().map(|issuer| {
            let (name, jwks_url) = (issuer.issuer.as_str(), issuer.jwks_url.as_deref());
            let introspection = issuer
                .introspection
                .as_ref()
                .map(|settings| Introspection::new(name, settings, fetcher.clone(), Arc::clone(&clock)));
            Ok(Issuer {
                keys: Arc::new(Keys::new(name, jwks_url, fetcher.clone(), Arc::clone(&clock))),
                introspection: introspection.transpose()?,
                settings: issuer.clone(),
            })
        });
        Ok(Self {
            inner: Arc::new(Inner {
                issuers: issuers.collect::<Result<_, AccessError>>()?,
                resources: resources(public_url),
                scope_prefix: settings.scope_prefix.clone(),
                roles,
                clock,
            }),
        })
    }

    async fn verify_jwt(&self, token: &str) -> Result<Principal, AccessError> {
        let head =
            jwt::head(token).map_err(|why| AccessError::Unauthenticated(format!("the token is refused: {why}")))?;
        let named = jwt::named_issuer(token);
        let issuer = self
            .inner
            .issuers
            .iter()
            .find(|issuer| Some(&issuer.settings.issuer) == named.as_ref())
            .ok_or_else(|| {
                AccessError::Unauthenticated("the token is refused: its issuer is not one of this server".to_owned())
            })?;
        let keys = issuer.keys.get(head.key_id.as_deref()).await?;
        let mut claims = jwt::verify(token, &head, &keys);
        if claims.is_err()
            && head.key_id.is_none()
            && let Some(keys) = issuer.keys.get_again().await?
        {
            // a rotation cannot be seen in a token that names no key
            claims = jwt::verify(token, &head, &keys);
        }
        let claims = claims.map_err(|why| refused(&issuer.settings.issuer, why))?;
        self.reader(issuer).jwt(&claims, head.is_typed)
    }

    async fn introspect(&self, token: &str) -> Result<Principal, AccessError> {
        let asked = self
            .inner
            .issuers
            .iter()
            .find_map(|issuer| Some((issuer, issuer.introspection.as_ref()?)));
        let Some((issuer, introspection)) = asked else {
            return Err(AccessError::Unauthenticated(
                "the credential is neither a key of this server nor a token of its issuers".to_owned(),
            ));
        };
        match introspection.ask(token).await? {
            Some(claims) => self.reader(issuer).introspected(&claims),
            None => Err(refused(&issuer.settings.issuer, "it is not active")),
        }
    }

    fn reader<'a>(&'a self, issuer: &'a Issuer) -> Reader<'a> {
        Reader {
            issuer: &issuer.settings,
            resources: &self.inner.resources,
            scope_prefix: &self.inner.scope_prefix,
            roles: &self.inner.roles,
            now_s: self.inner.clock.now_ns() / 1_000_000_000,
        }
    }
}

#[async_trait]
impl TokenVerifier for OAuth {
    async fn verify(&self, token: &str) -> Result<Principal, AccessError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AccessError::Unauthenticated(format!(
                "the token is refused: it is longer than {TOKEN_BYTES_MAX} bytes"
            )));
        }
        if jwt::is_jwt(token) {
            self.verify_jwt(token).await
        } else {
            self.introspect(token).await
        }
    }
}

/// The resource identifiers of a server: its public URL and its MCP endpoint, with and without the slash
/// that URL libraries add.
fn resources(public_url: &str) -> Vec<String> {
    let base = public_url.trim_end_matches('/');
    ["", "/", MCP_PATH, "/mcp/"]
        .iter()
        .map(|path| format!("{base}{path}"))
        .collect()
}
