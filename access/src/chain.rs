//! The authenticator of a server with `access.mode = required`: API keys, then tokens of an issuer.
//!
//! ```text
//! Bearer sl_…            an API key
//! Bearer anything else   the token verifier, where one is configured
//! Basic user:sl_…        an API key as password or user, as exporters that only know Basic send it
//! ```
//!
//! Guarantee: a credential is never tried at two places, never logged and never part of an error's message.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::keys::{self, Keys};
use crate::{AccessError, Authenticator, Principal};

/// Longest `Authorization` header that is looked at, in bytes: tokens with many groups stay below 16 KiB.
const AUTHORIZATION_BYTES_MAX: usize = 32 << 10;

/// Checks bearer tokens that are no API keys: OAuth 2.1 access tokens.
#[async_trait]
pub trait TokenVerifier: Send + Sync + std::fmt::Debug {
    /// The principal of a token, which is what follows `Bearer `.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] for a token that is not good, [`AccessError::Forbidden`] for a good one
    /// that has no place here, [`AccessError::Unavailable`] where its issuer does not answer.
    async fn verify(&self, token: &str) -> Result<Principal, AccessError>;
}

/// API keys, then tokens.
#[derive(Debug, Clone)]
pub struct Chain {
    keys: Keys,
    tokens: Option<Arc<dyn TokenVerifier>>,
}

impl Chain {
    /// An authenticator by API keys alone.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys, tokens: None }
    }

    /// The same, which also takes tokens.
    #[must_use]
    pub fn with_tokens(self, tokens: Arc<dyn TokenVerifier>) -> Self {
        Self {
            tokens: Some(tokens),
            ..self
        }
    }

    /// The keys it asks.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, authorization: Option<&str>) -> Result<Principal, AccessError> {
        match Credential::read(authorization)? {
            Credential::Key(key) => self.keys.authenticate(&key).await,
            Credential::Token(token) => match &self.tokens {
                Some(tokens) => tokens.verify(token).await,
                None => Err(AccessError::Unauthenticated(
                    "this bearer token is no API key (they begin with sl_), and no token issuer is configured under [access.oauth]; make a key with `spanledger keys create --role viewer`".to_owned(),
                )),
            },
        }
    }
}

/// The `Authorization` that a request's headers amount to: its own, else its `x-api-key` as a bearer key.
#[must_use]
pub fn authorization<'h>(authorization: Option<&'h str>, api_key: Option<&str>) -> Option<Cow<'h, str>> {
    match (authorization, api_key) {
        (Some(own), _) => Some(Cow::Borrowed(own)),
        (None, Some(key)) => Some(Cow::Owned(format!("Bearer {}", key.trim()))),
        (None, None) => None,
    }
}

enum Credential<'h> {
    Key(Cow<'h, str>),
    Token(&'h str),
}

impl<'h> Credential<'h> {
    fn read(authorization: Option<&'h str>) -> Result<Self, AccessError> {
        let Some(header) = authorization.map(str::trim).filter(|header| !header.is_empty()) else {
            return Err(AccessError::Unauthenticated(
                "no credential: send `Authorization: Bearer sl_…`; make a key with `spanledger keys create --role viewer` where the data is".to_owned(),
            ));
        };
        if header.len() > AUTHORIZATION_BYTES_MAX {
            return Err(AccessError::Unauthenticated(format!(
                "the Authorization header is longer than {AUTHORIZATION_BYTES_MAX} bytes"
            )));
        }
        let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Ok(match value.starts_with(keys::PREFIX) {
                true => Self::Key(Cow::Borrowed(value)),
                false => Self::Token(value),
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::of_basic(value);
        }
        Err(AccessError::Unauthenticated(
            "the Authorization header is no `Bearer …` and no `Basic …`; send `Authorization: Bearer sl_…`".to_owned(),
        ))
    }

    fn of_basic(value: &str) -> Result<Self, AccessError> {
        let refused = || {
            AccessError::Unauthenticated(
                "the Basic credential holds no API key; send the key (sl_…) as its password".to_owned(),
            )
        };
        let text = STANDARD
            .decode(value)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(refused)?;
        let (user, password) = text.split_once(':').unwrap_or((&text, ""));
        let key = [password, user].into_iter().find(|part| part.starts_with(keys::PREFIX));
        key.map(|key| Self::Key(Cow::Owned(key.to_owned()))).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn check(header: Option<&str>, expected: Result<(&str, &str), &str>) {
        match (Credential::read(header), expected) {
            (Ok(Credential::Key(key)), Ok(("key", text))) => assert_eq!(key, text),
            (Ok(Credential::Token(token)), Ok(("token", text))) => assert_eq!(token, text),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (read, expected) => panic!("{header:?}: read {} for {expected:?}", read.is_ok()),
        }
    }

    #[test]
    fn a_credential_is_read_from_bearer_and_basic() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        check(Some("Bearer sl_a_b_c"), Ok(("key", "sl_a_b_c")));
        check(Some("bearer  sl_a_b_c "), Ok(("key", "sl_a_b_c")));
        check(Some("Bearer eyJ.x.y"), Ok(("token", "eyJ.x.y")));
        check(Some(&basic("anyone:sl_a_b_c")), Ok(("key", "sl_a_b_c")));
        check(Some(&basic("sl_a_b_c:")), Ok(("key", "sl_a_b_c")));
        check(Some(&basic("anyone:secret")), Err("no API key"));
        check(Some("Basic !"), Err("no API key"));
        check(Some("Digest x"), Err("Bearer sl_"));
        check(Some("Bearer"), Err("Bearer sl_"));
        check(Some(&"x".repeat(AUTHORIZATION_BYTES_MAX + 1)), Err("longer than"));
        check(None, Err("spanledger keys create"));
        check(Some(" "), Err("spanledger keys create"));
        assert_eq!(authorization(None, Some("sl_a")).as_deref(), Some("Bearer sl_a"));
        assert_eq!(
            authorization(Some("Bearer t"), Some("sl_a")).as_deref(),
            Some("Bearer t")
        );
    }
}
