//! Browser sessions: a page exchanges an API key for a cookie, so that no page keeps the key.
//!
//! Sits beside [`crate::keys`]: [`Sessions::start`] checks a key and gives a random value for a cookie, of which
//! the control state keeps the SHA-256. Guarantee: a session ends with its key, within the time in which the key
//! itself does, and never outlives its own end. It sets no cookies and knows no HTTP.

use sha2::{Digest as _, Sha256};
use spanledger_state::sqlx;

use crate::keys::{self, Keys};
use crate::{AccessError, Principal};

/// Life of a session, in microseconds: a working day.
pub const SESSION_LIFE_US: i64 = 12 * 3_600 * 1_000_000;
/// Sessions of one key: a person's browsers. One more ends the oldest, so that nobody fills the table.
pub(crate) const PER_KEY_MAX: i64 = 32;
/// 256 bits in base 62.
const VALUE_CHARS: usize = 43;

/// Sessions of a control state. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Sessions {
    keys: Keys,
}

/// A started session.
pub struct Started {
    /// Whose it is.
    pub principal: Principal,
    /// The cookie's value: as good as a password while the session lasts.
    pub value: String,
    /// Its life in seconds, for the cookie's `Max-Age`.
    pub max_age_s: i64,
}

impl Sessions {
    /// Sessions opened with these keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys }
    }

    /// Starts a session with an API key, and forgets those that have ended, and the oldest of too many of this key.
    ///
    /// # Errors
    /// As [`Keys::authenticate`].
    pub async fn start(&self, key: &str) -> Result<Started, AccessError> {
        let principal = self.keys.authenticate(key).await?;
        let value = keys::random_digits::<32>(VALUE_CHARS)?;
        let now = self.keys.now_us();
        let pool = self.keys.state().pool();
        sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
            .bind(now)
            .execute(pool)
            .await
            .map_err(|error| unavailable(&error))?;
        sqlx::query(
            "DELETE FROM sessions WHERE key_id = $1 AND hash NOT IN \
             (SELECT hash FROM sessions WHERE key_id = $1 ORDER BY created_at DESC LIMIT $2)",
        )
        .bind(principal.subject())
        .bind(PER_KEY_MAX - 1)
        .execute(pool)
        .await
        .map_err(|error| unavailable(&error))?;
        sqlx::query("INSERT INTO sessions (hash, key_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(digest(&value))
            .bind(principal.subject())
            .bind(now)
            .bind(now.saturating_add(SESSION_LIFE_US))
            .execute(pool)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(Started {
            principal,
            value,
            max_age_s: SESSION_LIFE_US / 1_000_000,
        })
    }

    /// The principal of a cookie's value.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] where the session is unknown or over, or its key is.
    pub async fn principal(&self, value: &str) -> Result<Principal, AccessError> {
        let found: Option<(String,)> =
            sqlx::query_as("SELECT key_id FROM sessions WHERE hash = $1 AND expires_at > $2")
                .bind(digest(value))
                .bind(self.keys.now_us())
                .fetch_optional(self.keys.state().pool())
                .await
                .map_err(|error| unavailable(&error))?;
        match found {
            Some((key,)) => self.keys.resume(&key).await,
            None => Err(AccessError::Unauthenticated(
                "the session is over; sign in again".to_owned(),
            )),
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`].
    pub async fn end(&self, value: &str) -> Result<(), AccessError> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1")
            .bind(digest(value))
            .execute(self.keys.state().pool())
            .await
            .map(|_| ())
            .map_err(|error| unavailable(&error))
    }
}

// The digest is what is looked up, so nothing is compared byte by byte with the secret itself.
fn digest(value: &str) -> Vec<u8> {
    Sha256::digest(value.as_bytes()).to_vec()
}

fn unavailable(error: &sqlx::Error) -> AccessError {
    AccessError::Unavailable(format!("the sessions cannot be read or written now: {error}"))
}
