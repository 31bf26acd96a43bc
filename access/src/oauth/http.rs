//! The HTTP client towards authorization servers, with every limit that a server needs which is told to
//! fetch something because a stranger sent a token.
//!
//! Each request ends in time and in size; a redirect is followed on the same host only, so that a secret or
//! a token never goes elsewhere; https is demanded but for loopback. Bodies and tokens are never in errors.

use std::time::Duration;

use reqwest::{Response, redirect};
use serde_json::Value;
use url::Url;

use super::settings::checked_url;
use crate::AccessError;

/// One exchange from connect to the last byte. A request to us waits for it, and clients give up at 10-30 s.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// A server that cannot be reached is known sooner.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Largest document. Entra ID's keys of all tenants are 20 KiB; Keycloak's metadata 10 KiB.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Redirects on the same host.
const REDIRECTS_MAX: usize = 3;

/// Fetches JSON documents of authorization servers.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    client: reqwest::Client,
    /// Without a proxy: what is on this machine is reached directly.
    loopback: reqwest::Client,
}

impl Fetcher {
    /// # Errors
    /// [`AccessError::Unavailable`] where no TLS client can be made.
    pub(super) fn new() -> Result<Self, AccessError> {
        let builder = || {
            reqwest::Client::builder()
                .timeout(EXCHANGE_MAX)
                .connect_timeout(CONNECT_MAX)
                .redirect(redirect::Policy::custom(same_host))
                .user_agent(concat!("spanledger/", env!("CARGO_PKG_VERSION")))
        };
        let unusable = |error: reqwest::Error| {
            AccessError::Unavailable(format!("no HTTPS client for the OAuth issuers could be made: {error}"))
        };
        Ok(Self {
            client: builder().build().map_err(unusable)?,
            loopback: builder().no_proxy().build().map_err(unusable)?,
        })
    }

    /// A JSON document; `None` where the server says that there is none (4xx).
    pub(super) async fn get(&self, url: &str) -> Result<Option<Value>, AccessError> {
        let url = checked_url(url).map_err(AccessError::Unavailable)?;
        let request = self.of(&url).get(url.clone()).header("accept", "application/json");
        let response = request.send().await.map_err(|error| unreachable(&url, &error))?;
        if !response.status().is_success() && !response.status().is_server_error() {
            return Ok(None);
        }
        read(&url, response).await.map(Some)
    }

    /// Posts a form as a client with a secret (`client_secret_basic`).
    pub(super) async fn post(
        &self,
        url: &str,
        client: (&str, &str),
        form: &[(&str, &str)],
    ) -> Result<Value, AccessError> {
        let url = checked_url(url).map_err(AccessError::Unavailable)?;
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = self
            .of(&url)
            .post(url.clone())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            // RFC 6749 section 2.3.1: both are form-encoded before they are joined
            .basic_auth(encode(client.0), Some(encode(client.1)))
            .body(body);
        let response = request.send().await.map_err(|error| unreachable(&url, &error))?;
        read(&url, response).await
    }

    fn of(&self, url: &Url) -> &reqwest::Client {
        // http is allowed for loopback only; https to a name or address of this machine is direct as well
        let is_local = url.scheme() == "http" || url.host_str().is_some_and(crate::origin::host_is_loopback);
        if is_local { &self.loopback } else { &self.client }
    }
}

fn same_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let is_same = attempt
        .previous()
        .first()
        .is_some_and(|first| first.origin() == attempt.url().origin());
    if is_same && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.error("a redirect to another host is not followed")
    }
}

async fn read(url: &Url, mut response: Response) -> Result<Value, AccessError> {
    if !response.status().is_success() {
        let status = response.status().as_u16();
        return Err(AccessError::Unavailable(format!(
            "the OAuth issuer answered {status} at {url}; the credential cannot be checked now"
        )));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(AccessError::Unavailable(format!(
                "the OAuth issuer's document at {url} is larger than {BODY_BYTES_MAX} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body)
        .map_err(|_| AccessError::Unavailable(format!("the OAuth issuer's document at {url} is not JSON")))
}

/// What went wrong, without the address twice and without anything that was sent.
fn unreachable(url: &Url, error: &reqwest::Error) -> AccessError {
    let why = match error {
        _ if error.is_timeout() => "it does not answer in time",
        _ if error.is_redirect() => "it redirects to another host",
        _ if error.is_connect() => "it cannot be reached, or its certificate is not trusted",
        _ => "the exchange failed",
    };
    tracing::warn!(%url, %error, "an OAuth issuer cannot be used");
    AccessError::Unavailable(format!(
        "the OAuth issuer at {url} cannot be asked: {why}; the credential cannot be checked now"
    ))
}
