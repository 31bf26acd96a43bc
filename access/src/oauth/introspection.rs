//! Opaque tokens: the issuer is asked what one is worth (RFC 7662), and its yes is kept for a moment.
//!
//! A yes is kept for [`KEPT`] at most and never past the token's end, under a hash of the token; a no is not
//! kept at all, so a token that is issued after a wrong guess works at once. Strangers can make this server
//! ask by sending anything, therefore only so many questions are open at a time; more are answered
//! "unavailable".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use spanledger_model::Clock;
use tokio::sync::{OnceCell, Semaphore};

use super::http::Fetcher;
use super::jwt::Claims;
use super::metadata;
use super::settings::IntrospectionSettings;
use crate::AccessError;

/// How long a yes is kept: a revoked token is dead by then.
pub(super) const KEPT: Duration = Duration::from_secs(15);
/// Answers kept. A hash and a few claims each: some MiB.
const KEPT_MAX: usize = 4_096;
/// Questions open at a time.
const OPEN_MAX: usize = 32;
/// Longest secret read from a file, in bytes.
const SECRET_BYTES_MAX: u64 = 4_096;

type Hash = [u8; 32];

/// A client of one issuer's introspection endpoint.
pub(super) struct Introspection {
    issuer: String,
    url: Option<String>,
    discovered: OnceCell<String>,
    client_id: String,
    secret: String,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<Hash, (i64, Arc<Claims>)>>,
    open: Semaphore,
}

impl std::fmt::Debug for Introspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Introspection({} as {})", self.issuer, self.client_id)
    }
}

impl Introspection {
    /// # Errors
    /// [`AccessError::Invalid`] where the secret cannot be read, naming the variable or file.
    pub(super) fn new(
        issuer: &str,
        settings: &IntrospectionSettings,
        fetcher: Fetcher,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AccessError> {
        Ok(Self {
            issuer: issuer.to_owned(),
            url: settings.url.clone(),
            discovered: OnceCell::new(),
            client_id: settings.client_id.clone(),
            secret: secret(settings)?,
            fetcher,
            clock,
            kept: Mutex::default(),
            open: Semaphore::new(OPEN_MAX),
        })
    }

    /// What the issuer says of a token; `None` where it is not active.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the issuer does not say.
    pub(super) async fn ask(&self, token: &str) -> Result<Option<Arc<Claims>>, AccessError> {
        let hash: Hash = Sha256::digest(token).into();
        if let Some(claims) = self.kept(&hash) {
            return Ok(Some(claims));
        }
        let _open = self.open.try_acquire().map_err(|_| {
            AccessError::Unavailable("too many tokens wait for the OAuth issuer's answer; try again".to_owned())
        })?;
        let form = [("token", token), ("token_type_hint", "access_token")];
        let client = (self.client_id.as_str(), self.secret.as_str());
        let answer = self.fetcher.post(self.url().await?, client, &form).await?;
        let serde_json::Value::Object(claims) = answer else {
            return Err(AccessError::Unavailable(format!(
                "the OAuth issuer {} answers an introspection with something else",
                self.issuer
            )));
        };
        if claims.get("active") != Some(&serde_json::Value::Bool(true)) {
            return Ok(None);
        }
        let claims = Arc::new(claims);
        self.keep(hash, &claims);
        Ok(Some(claims))
    }

    async fn url(&self) -> Result<&str, AccessError> {
        if let Some(url) = &self.url {
            return Ok(url);
        }
        let discovered = self.discovered.get_or_try_init(async || {
            let metadata = metadata::discover(&self.fetcher, &self.issuer).await?;
            metadata.introspection_endpoint.ok_or_else(|| {
                AccessError::Unavailable(format!(
                    "the OAuth issuer {} publishes no introspection endpoint; set introspection.url",
                    self.issuer
                ))
            })
        });
        discovered.await.map(String::as_str)
    }

    fn kept(&self, hash: &Hash) -> Option<Arc<Claims>> {
        let now = self.clock.now_ns();
        let kept = self.kept.lock();
        let (until, claims) = kept.get(hash)?;
        (now < *until).then(|| Arc::clone(claims))
    }

    fn keep(&self, hash: Hash, claims: &Arc<Claims>) {
        let now = self.clock.now_ns();
        let kept_ns = i64::try_from(KEPT.as_nanos()).unwrap_or(0);
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (until, _)| now < *until);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(hash, (now.saturating_add(kept_ns), Arc::clone(claims)));
        }
    }
}

fn secret(settings: &IntrospectionSettings) -> Result<String, AccessError> {
    let unreadable = |place: String| {
        AccessError::Invalid(format!(
            "the introspection secret of access.oauth is not in {place}; put it there"
        ))
    };
    let text = match (&settings.client_secret_env, &settings.client_secret_file) {
        (Some(name), _) => std::env::var(name).map_err(|_| unreadable(format!("the environment variable {name}")))?,
        (None, Some(path)) => {
            let place = || unreadable(format!("the file {}", path.display()));
            let size = std::fs::metadata(path).map_err(|_| place())?.len();
            if size > SECRET_BYTES_MAX {
                return Err(place());
            }
            std::fs::read_to_string(path).map_err(|_| place())?
        }
        (None, None) => return Err(unreadable("any setting".to_owned())),
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(unreadable("the place that is named (it is empty)".to_owned()));
    }
    Ok(text)
}
