//! API keys: made once, shown once, checked on every request, dead within a second of being revoked.
//!
//! ```text
//! sl_<id>_<secret>_<checksum>
//!    │    │        └ CRC-32 of everything before it, 6 characters: tells a typo from an unknown key
//!    │    └ 256 bits of the operating system's randomness, 43 characters of base 62
//!    └ 12 characters of base 62: names the key in lists and logs, no secret
//! ```
//!
//! The table `api_keys` of the control state keeps the SHA-256 of the secret and nothing else of it. A plain hash
//! is right here: there is nothing to guess in 256 random bits, so a slow one would only slow requests.
//!
//! Guarantee: a revoked key is refused [`CACHE_LIFE_MS`] later at the latest, whichever process revoked it; digests are
//! compared in constant time; no error, log line or `Debug` output holds a secret.
//! What a key may do is its role's business ([`crate::roles`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use spanledger_model::Clock;
use spanledger_state::State;
use spanledger_state::sqlx;
use subtle::ConstantTimeEq as _;

use crate::audit::{Audit, Interface, Outcome};
use crate::roles::{self, Roles};
use crate::{AccessError, KEY_ISSUER, Principal, RowFilter, Scope, Scopes};

/// What every key begins with.
pub const PREFIX: &str = "sl_";
/// How long a row of `api_keys` is believed without reading it again, in milliseconds: half of the second within
/// which a revoked key must be dead, with room for a slow disk. A check from memory took 20 µs where reading the row took
/// 190 µs (debug build, two busy cores).
pub const CACHE_LIFE_MS: i64 = 250;
/// Rows that are remembered; beyond it all are forgotten at once.
const CACHE_ROWS_MAX: usize = 4_096;
/// `last_used_at` is as old as this at most, and the use of a key that works no more is recorded as often: a busy key
/// writes once a minute.
const TOLD_GRAIN_US: i64 = 60_000_000;
const ID_CHARS: usize = 12;
/// The least number of base 62 digits that hold 256 bits.
const SECRET_CHARS: usize = 43;
/// The least number of base 62 digits that hold 32 bits.
const CHECKSUM_CHARS: usize = 6;
/// Longest name of a key or a tenant, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Most values of one column of a key's row filter.
const VALUES_MAX: usize = 256;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

macro_rules! select {
    () => {
        "SELECT id, hash, tenant, name, role, teams, projects, environments, created_at, created_by, expires_at, revoked_at, last_used_at FROM api_keys"
    };
}

/// A whole key. It has no `Display` and a `Debug` without the secret; [`Self::expose`] is how it is shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

impl SecretKey {
    /// The key as its user sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// What a new key is to be.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// Whose data it opens.
    pub tenant: String,
    /// What its user calls it.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// Which rows it shows, of those that its role shows.
    pub rows: RowFilter,
    /// When it ends, in microseconds since the Unix epoch; `None` never.
    pub expires_at: Option<i64>,
    /// Who made it.
    pub created_by: String,
}

/// A key as it is listed: everything but its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// What it is named by in lists, logs and the audit log.
    pub id: String,
    /// Whose data it opens.
    pub tenant: String,
    /// What its user calls it.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// Which rows it shows, of those that its role shows.
    pub rows: RowFilter,
    /// When it was made. All times are microseconds since the Unix epoch, UTC.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// When it was last used, at most a minute late.
    pub last_used_at: Option<i64>,
}

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl KeyStatus {
    /// Its name in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyInfo {
    /// Whether it opens anything at `now`, in microseconds since the Unix epoch.
    #[must_use]
    pub fn status(&self, now: i64) -> KeyStatus {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => KeyStatus::Revoked,
            (None, Some(end)) if end <= now => KeyStatus::Expired,
            _ => KeyStatus::Active,
        }
    }
}

/// The keys of a control state. Clones share what they remember.
#[derive(Debug, Clone)]
pub struct Keys {
    inner: Arc<Inner>,
    audit: Audit,
}

#[derive(Debug)]
struct Inner {
    state: State,
    clock: Arc<dyn Clock>,
    roles: Roles,
    cache: Mutex<HashMap<String, Cached>>,
}

#[derive(Clone)]
struct Cached {
    row: Arc<Row>,
    read_at_ns: i64,
    used_written_at: i64,
    refused_told_at: i64,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cached({})", self.row.info.id)
    }
}

struct Row {
    info: KeyInfo,
    hash: Vec<u8>,
}

impl Keys {
    /// The keys of `state`, whose roles are `roles`.
    #[must_use]
    pub fn new(state: State, roles: Roles, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                state,
                clock,
                roles,
                cache: Mutex::new(HashMap::new()),
            }),
            audit: Audit::none(),
        }
    }

    /// The same, which records the use of keys that work no more.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The roles that keys can have.
    #[must_use]
    pub fn roles(&self) -> &Roles {
        &self.inner.roles
    }

    /// Makes a key. The secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] for a name, tenant, role or time that cannot be; [`AccessError::Unavailable`].
    pub async fn create(&self, new: &NewKey) -> Result<(KeyInfo, SecretKey), AccessError> {
        let now = self.now_us();
        check_new(new, &self.inner.roles, now)?;
        let id = random_digits::<9>(ID_CHARS)?;
        let secret = random_digits::<32>(SECRET_CHARS)?;
        let info = KeyInfo {
            id,
            tenant: new.tenant.clone(),
            name: new.name.clone(),
            role: new.role.clone(),
            rows: new.rows.clone(),
            created_at: now,
            created_by: new.created_by.clone(),
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let values = |column| values_of(&info.rows, column);
        sqlx::query(
            "INSERT INTO api_keys (id, hash, tenant, name, role, teams, projects, environments, created_at, created_by, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(&info.id)
        .bind(digest(&secret).to_vec())
        .bind(&info.tenant)
        .bind(&info.name)
        .bind(&info.role)
        .bind(values("team"))
        .bind(values("project"))
        .bind(values("environment"))
        .bind(info.created_at)
        .bind(&info.created_by)
        .bind(info.expires_at)
        .execute(self.inner.state.pool())
        .await
        .map_err(|error| unavailable(&error))?;
        let key = assemble(&info.id, &secret);
        Ok((info, key))
    }

    /// Keys of one tenant, or of all, oldest first.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`].
    pub async fn list(&self, tenant: Option<&str>) -> Result<Vec<KeyInfo>, AccessError> {
        let rows = sqlx::query(concat!(
            select!(),
            " WHERE ($1 IS NULL OR tenant = $1) ORDER BY created_at, id"
        ))
        .bind(tenant)
        .fetch_all(self.inner.state.pool())
        .await
        .map_err(|error| unavailable(&error))?;
        let rows = rows.iter().map(|row| Ok(row_of(row)?.info));
        rows.collect::<Result<_, _>>().map_err(|error| unavailable(&error))
    }

    /// True where some key that works now holds `admin`.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`].
    pub async fn has_admin(&self) -> Result<bool, AccessError> {
        let now = self.now_us();
        let holds_admin = |key: &KeyInfo| {
            let role = self.inner.roles.get(&key.role);
            key.status(now) == KeyStatus::Active && role.is_some_and(|role| role.scopes().has(Scope::Admin))
        };
        Ok(self.list(None).await?.iter().any(holds_admin))
    }

    /// Revokes a key of `tenant`, or of any. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] where there is no such key; [`AccessError::Unavailable`].
    pub async fn revoke(&self, tenant: Option<&str>, id: &str) -> Result<KeyInfo, AccessError> {
        let id = public_id(id);
        let sql =
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE id = $1 AND ($2 IS NULL OR tenant = $2)";
        let changed = sqlx::query(sql)
            .bind(id)
            .bind(tenant)
            .bind(self.now_us())
            .execute(self.inner.state.pool())
            .await
            .map_err(|error| unavailable(&error))?;
        self.inner.cache.lock().remove(id);
        let row = match changed.rows_affected() {
            0 => None,
            _ => self.inner.read(id).await?,
        };
        // What was given may be a whole key, so it is not repeated.
        row.map(|row| row.info).ok_or_else(|| {
            AccessError::Invalid("there is no API key with this id; `spanledger keys list` shows the ids".to_owned())
        })
    }

    /// The principal of a presented key.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] for what is no key, or an unknown, revoked or expired one;
    /// [`AccessError::Forbidden`] where its role is no longer configured; [`AccessError::Unavailable`].
    pub async fn authenticate(&self, key: &str) -> Result<Principal, AccessError> {
        let (id, secret) = parse(key).ok_or_else(|| {
            AccessError::Unauthenticated(
                "the API key is not whole or has a typo (its checksum does not match); copy it again".to_owned(),
            )
        })?;
        let unknown = || {
            AccessError::Unauthenticated(
                "the API key is not known here; make one with `spanledger keys create --role viewer`".to_owned(),
            )
        };
        let row = self.row(id).await?.ok_or_else(unknown)?;
        if !bool::from(digest(secret).as_slice().ct_eq(row.hash.as_slice())) {
            return Err(unknown());
        }
        self.admit(&row.info)
    }

    /// The principal of a key by its id alone, for a session that was opened with the key.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub(crate) async fn resume(&self, id: &str) -> Result<Principal, AccessError> {
        let row = self.row(id).await?;
        let row =
            row.ok_or_else(|| AccessError::Unauthenticated("the session's API key is gone; sign in again".to_owned()))?;
        self.admit(&row.info)
    }

    /// Now, in microseconds since the Unix epoch.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.inner.clock.now_ns().div_euclid(1_000)
    }

    pub(crate) fn state(&self) -> &State {
        &self.inner.state
    }

    fn admit(&self, info: &KeyInfo) -> Result<Principal, AccessError> {
        let id = &info.id;
        match info.status(self.now_us()) {
            KeyStatus::Active => {}
            status => {
                self.tell_refused(info, status);
                return Err(AccessError::Unauthenticated(format!(
                    "the API key {id} is {}; make another with `spanledger keys create`",
                    status.name()
                )));
            }
        }
        let role = self.inner.roles.get(&info.role).ok_or_else(|| {
            AccessError::Forbidden(format!(
                "the role {:?} of the API key {id} is not configured on this server",
                info.role
            ))
        })?;
        let rows = role.rows().and(&info.rows);
        roles::confined(role, &rows).map_err(|error| AccessError::Forbidden(error.to_string()))?;
        self.touch(id);
        Ok(Principal::new(&info.tenant, KEY_ISSUER, id, role.scopes())
            .with_credential(Some(id))
            .with_rows(rows))
    }

    /// Records, at most once a minute, that somebody uses a key that works no more.
    fn tell_refused(&self, info: &KeyInfo, status: KeyStatus) {
        if !self.is_due(&info.id, self.now_us(), |cached| &mut cached.refused_told_at) {
            return;
        }
        let principal =
            Principal::new(&info.tenant, KEY_ISSUER, &info.id, Scopes::NONE).with_credential(Some(&info.id));
        self.audit.record(
            &principal,
            Interface::Any,
            "key.use",
            Some(&info.id),
            Outcome::Denied,
            Some(status.name()),
        );
    }

    async fn row(&self, id: &str) -> Result<Option<Arc<Row>>, AccessError> {
        let now_ns = self.inner.clock.now_ns();
        if let Some(cached) = self.inner.cache.lock().get(id) {
            // A clock that was set back makes the age negative, which is no age to trust either.
            if (0..CACHE_LIFE_MS * 1_000_000).contains(&(now_ns - cached.read_at_ns)) {
                return Ok(Some(Arc::clone(&cached.row)));
            }
        }
        let Some(row) = self.inner.read(id).await? else {
            self.inner.cache.lock().remove(id);
            return Ok(None);
        };
        let row = Arc::new(row);
        let mut cache = self.inner.cache.lock();
        if cache.len() >= CACHE_ROWS_MAX && !cache.contains_key(id) {
            cache.clear();
        }
        let used = row.info.last_used_at.unwrap_or(i64::MIN);
        let before = cache.get(id);
        let used = before.map_or(used, |before| before.used_written_at.max(used));
        let refused_told_at = before.map_or(i64::MIN, |before| before.refused_told_at);
        cache.insert(
            id.to_owned(),
            Cached {
                row: Arc::clone(&row),
                read_at_ns: now_ns,
                used_written_at: used,
                refused_told_at,
            },
        );
        Ok(Some(row))
    }

    /// True where this was told of the key a while ago ([`TOLD_GRAIN_US`]); it counts as told then.
    fn is_due(&self, id: &str, now: i64, told_at: fn(&mut Cached) -> &mut i64) -> bool {
        let mut cache = self.inner.cache.lock();
        let Some(told_at) = cache.get_mut(id).map(told_at) else {
            return false;
        };
        let is_due = now.saturating_sub(*told_at) >= TOLD_GRAIN_US;
        if is_due {
            *told_at = now;
        }
        is_due
    }

    /// Notes the use of a key, in the background and at most once a minute.
    fn touch(&self, id: &str) {
        let now = self.now_us();
        if !self.is_due(id, now, |cached| &mut cached.used_written_at) {
            return;
        }
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        tokio::spawn(async move {
            let written = sqlx::query("UPDATE api_keys SET last_used_at = $2 WHERE id = $1")
                .bind(&id)
                .bind(now)
                .execute(inner.state.pool())
                .await;
            if let Err(error) = written {
                tracing::debug!(%error, id, "the use of an API key could not be noted");
            }
        });
    }
}

impl Inner {
    async fn read(&self, id: &str) -> Result<Option<Row>, AccessError> {
        let row = sqlx::query(concat!(select!(), " WHERE id = $1"))
            .bind(id)
            .fetch_optional(self.state.pool())
            .await
            .map_err(|error| unavailable(&error))?;
        row.map(|row| row_of(&row))
            .transpose()
            .map_err(|error| unavailable(&error))
    }
}

fn row_of(row: &sqlx::sqlite::SqliteRow) -> Result<Row, sqlx::Error> {
    use sqlx::Row as _;
    let list = |column: &str| -> Result<Option<Vec<String>>, sqlx::Error> {
        let text: Option<String> = row.try_get(column)?;
        // A list that cannot be read lets nothing pass, rather than everything.
        Ok(text.map(|text| serde_json::from_str(&text).unwrap_or_default()))
    };
    let rows = roles::row_filter(
        list("teams")?.as_ref(),
        list("projects")?.as_ref(),
        list("environments")?.as_ref(),
    );
    Ok(Row {
        info: KeyInfo {
            id: row.try_get("id")?,
            tenant: row.try_get("tenant")?,
            name: row.try_get("name")?,
            role: row.try_get("role")?,
            rows,
            created_at: row.try_get("created_at")?,
            created_by: row.try_get("created_by")?,
            expires_at: row.try_get("expires_at")?,
            revoked_at: row.try_get("revoked_at")?,
            last_used_at: row.try_get("last_used_at")?,
        },
        hash: row.try_get("hash")?,
    })
}

fn check_new(new: &NewKey, roles: &Roles, now: i64) -> Result<(), AccessError> {
    let invalid = |message: String| Err(AccessError::Invalid(message));
    for (what, text) in [("name", &new.name), ("tenant", &new.tenant)] {
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return invalid(format!(
                "the {what} of an API key is 1 to {NAME_BYTES_MAX} bytes without control characters"
            ));
        }
    }
    if !is_tenant(&new.tenant) {
        return invalid(format!(
            "the tenant {:?} is no name of letters, digits, '-', '_' and '.' that begins with a letter or digit",
            new.tenant
        ));
    }
    let role = roles.require(&new.role)?;
    roles::confined(role, &new.rows)?;
    if new
        .rows
        .conditions()
        .any(|(_, values)| values.is_empty() || values.len() > VALUES_MAX)
    {
        return invalid(format!("a key is confined to 1 to {VALUES_MAX} values of a column"));
    }
    match new.expires_at {
        Some(end) if end <= now => invalid("the key would be expired from the start; give a later time".to_owned()),
        _ => Ok(()),
    }
}

/// True for what can name a tenant: also the name of a folder of the lake, so neither empty nor a path.
#[must_use]
pub fn is_tenant(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(is_plain)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

fn values_of(rows: &RowFilter, column: &str) -> Option<String> {
    let (_, values) = rows.conditions().find(|(name, _)| *name == column)?;
    serde_json::to_string(values).ok()
}

/// The id in what a person may paste: an id, or by mistake a whole key.
fn public_id(text: &str) -> &str {
    parse(text).map_or(text, |(id, _)| id)
}

fn assemble(id: &str, secret: &str) -> SecretKey {
    let mut key = format!("{PREFIX}{id}_{secret}");
    let checksum = checksum(&key);
    key.push('_');
    key.push_str(&checksum);
    SecretKey(key)
}

/// Id and secret of a whole key.
fn parse(key: &str) -> Option<(&str, &str)> {
    let (body, check) = key.rsplit_once('_')?;
    let (id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
    let is_digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_whole = is_digits(id, ID_CHARS) && is_digits(secret, SECRET_CHARS) && checksum(body) == check;
    is_whole.then_some((id, secret))
}

/// The text with everything that has the shape of a key cut down to the key's id: what a caller wrote into an address
/// or a statement may be one, by mistake.
pub(crate) fn without_secrets(text: &str) -> Cow<'_, str> {
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    let n_digits = |text: &str| text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(PREFIX) {
        kept.push_str(before);
        kept.push_str(PREFIX);
        rest = after;
        let n_id = n_digits(after);
        let n_secret = after[n_id..].strip_prefix('_').map_or(0, n_digits);
        if n_id == ID_CHARS && n_secret > 0 {
            kept.push_str(&after[..=n_id]);
            kept.push('…');
            rest = &after[n_id + 1 + n_secret..];
            if let Some(checksum) = rest.strip_prefix('_') {
                rest = &checksum[n_digits(checksum)..];
            }
        }
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

fn checksum(body: &str) -> String {
    base_62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECKSUM_CHARS)
}

/// SHA-256 of the secret part, which is what is stored.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// `BYTES` bytes of the operating system's randomness as `n_chars` digits.
///
/// # Errors
/// [`AccessError::Unavailable`] where the operating system gives none.
pub(crate) fn random_digits<const BYTES: usize>(n_chars: usize) -> Result<String, AccessError> {
    let mut bytes = [0_u8; BYTES];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| AccessError::Unavailable(format!("the operating system gives no random numbers: {error}")))?;
    Ok(base_62(&bytes, n_chars))
}

/// A big-endian number in base 62, with leading zeros up to `n_chars`; digits above that are cut off.
fn base_62(bytes: &[u8], n_chars: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; n_chars];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    digits.into_iter().map(char::from).collect()
}

fn unavailable(error: &sqlx::Error) -> AccessError {
    AccessError::Unavailable(format!("the API keys cannot be read or written now: {error}"))
}

#[cfg(test)]
mod tests;
