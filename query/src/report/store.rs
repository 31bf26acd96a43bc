//! [`Reports`]: what was made, kept for who made it.
//!
//! A file lies in `<data>/reports/<id>/`, its row in the table `reports`. The id has 128 random bits. Another principal
//! gets the same answer as for an id that does not exist; who may change budgets (`finops:write`, all rows of the
//! tenant) reads the tenant's reports. After [`RETENTION_DAYS`] a report is gone for everybody; [`Reports::clear`]
//! removes what is over, each time one is made and once an hour in a server. Who reads a report may delete it before.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use spanledger_access::{Principal, Scope};
use spanledger_state::{State, sqlx};

use super::Artefact;
use crate::error::{Error, ErrorKind, Result};

/// Days that a report is kept.
pub const RETENTION_DAYS: i64 = 30;
const DAY_US: i64 = 86_400_000_000;
/// Reports that one listing names: the newest.
const LISTED_MAX: i64 = 200;
/// Expired reports cleared away at a time.
const CLEARED_MAX: i64 = 100;

/// The reports of a data folder. Clones share them.
#[derive(Debug, Clone)]
pub struct Reports {
    state: State,
    folder: PathBuf,
}

/// A report that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// Its media type.
    pub mime_type: String,
    /// Name of its file.
    pub file_name: String,
    /// Its size.
    pub size_bytes: i64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// When it was made, microseconds since the Unix epoch.
    pub created_at_us: i64,
    /// When it is gone.
    pub expires_at_us: Option<i64>,
}

type StoredRow = (String, String, String, String, String, i64, String, i64, Option<i64>);

const COLUMNS: &str = "id, kind, title, mime_type, file, size_bytes, sha256, created_at, expires_at";

impl Reports {
    /// The reports whose rows are in `state` and whose files are below `folder`.
    #[must_use]
    pub fn new(state: State, folder: impl Into<PathBuf>) -> Self {
        Self {
            state,
            folder: folder.into(),
        }
    }

    /// Keeps a report for who made it.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where it cannot be written.
    pub async fn keep(&self, principal: &Principal, artefact: &Artefact, now_ns: i64) -> Result<Kept> {
        let now_us = now_ns.div_euclid(1_000);
        self.clear(now_ns).await?;
        let id = hex::encode(rand::random::<[u8; 16]>());
        let kept = Kept {
            kind: artefact.kind.name().to_owned(),
            title: artefact.title.clone(),
            mime_type: artefact.format.mime_type().to_owned(),
            file_name: artefact.file_name.clone(),
            size_bytes: i64::try_from(artefact.bytes.len()).unwrap_or(i64::MAX),
            sha256: hex::encode(Sha256::digest(&artefact.bytes)),
            created_at_us: now_us,
            expires_at_us: Some(now_us.saturating_add(RETENTION_DAYS * DAY_US)),
            id,
        };
        // The file first: a row names what is there.
        let folder = self.folder.join(&kept.id);
        if let Err(error) = self.write(principal, &kept, &folder, &artefact.bytes).await {
            // Nothing points at it: what is left of it would lie there for ever.
            let _ = tokio::fs::remove_dir_all(&folder).await;
            return Err(error);
        }
        Ok(kept)
    }

    async fn write(&self, principal: &Principal, kept: &Kept, folder: &Path, bytes: &[u8]) -> Result<()> {
        tokio::fs::create_dir_all(folder).await.map_err(not_written)?;
        tokio::fs::write(folder.join(&kept.file_name), bytes)
            .await
            .map_err(not_written)?;
        let inserted = sqlx::query(
            "INSERT INTO reports (id, owner, tenant, kind, title, mime_type, file, size_bytes, sha256, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(&kept.id)
        .bind(owner(principal))
        .bind(principal.tenant().as_str())
        .bind(&kept.kind)
        .bind(&kept.title)
        .bind(&kept.mime_type)
        .bind(format!("{}/{}", kept.id, kept.file_name))
        .bind(kept.size_bytes)
        .bind(&kept.sha256)
        .bind(kept.created_at_us)
        .bind(kept.expires_at_us)
        .execute(self.state.pool())
        .await;
        inserted.map(|_| ()).map_err(not_written)
    }

    /// The reports that a principal may read, newest first.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where the control state cannot be read.
    pub async fn list(&self, principal: &Principal, now_ns: i64) -> Result<Vec<Kept>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM reports WHERE tenant = $1 AND (owner = $2 OR $3 = 1) \
             AND (expires_at IS NULL OR expires_at > $4) ORDER BY created_at DESC, id LIMIT $5"
        );
        let rows: Vec<StoredRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(principal.tenant().as_str())
            .bind(owner(principal))
            .bind(i64::from(reads_all(principal)))
            .bind(now_ns.div_euclid(1_000))
            .bind(LISTED_MAX)
            .fetch_all(self.state.pool())
            .await
            .map_err(not_read)?;
        Ok(rows.into_iter().map(kept).collect())
    }

    /// A report and its file.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), the same for one that does not exist, has expired or is somebody else's.
    pub async fn read(&self, principal: &Principal, id: &str, now_ns: i64) -> Result<(Kept, Vec<u8>)> {
        let kept = self.find(principal, id, now_ns).await?;
        // Ids and names are ours; whatever a row says, nothing outside the folder is read.
        let is_ours = |name: &str| {
            matches!(
                Path::new(name).components().collect::<Vec<_>>()[..],
                [Component::Normal(_)]
            )
        };
        if !is_ours(&kept.id) || !is_ours(&kept.file_name) {
            return Err(unknown());
        }
        let file = self.folder.join(&kept.id).join(&kept.file_name);
        let bytes = tokio::fs::read(file).await.map_err(|_| unknown())?;
        Ok((kept, bytes))
    }

    /// What is known of a report, without its file.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub async fn find(&self, principal: &Principal, id: &str, now_ns: i64) -> Result<Kept> {
        let sql = format!(
            "SELECT {COLUMNS} FROM reports WHERE id = $1 AND tenant = $2 AND (owner = $3 OR $4 = 1) \
             AND (expires_at IS NULL OR expires_at > $5)"
        );
        let row: Option<StoredRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .bind(principal.tenant().as_str())
            .bind(owner(principal))
            .bind(i64::from(reads_all(principal)))
            .bind(now_ns.div_euclid(1_000))
            .fetch_optional(self.state.pool())
            .await
            .map_err(not_read)?;
        row.map(kept).ok_or_else(unknown)
    }

    /// Deletes a report, file and row.
    ///
    /// # Errors
    /// As of [`read`](Self::read); [`Internal`](ErrorKind::Internal) where it cannot be removed.
    pub async fn delete(&self, principal: &Principal, id: &str, now_ns: i64) -> Result<Kept> {
        let kept = self.find(principal, id, now_ns).await?;
        self.remove(&kept.id).await?;
        Ok(kept)
    }

    /// Removes reports that have expired, and tells how many there were.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) where the control state cannot be read or written.
    pub async fn clear(&self, now_ns: i64) -> Result<usize> {
        let expired: Vec<(String,)> = sqlx::query_as("SELECT id FROM reports WHERE expires_at <= $1 LIMIT $2")
            .bind(now_ns.div_euclid(1_000))
            .bind(CLEARED_MAX)
            .fetch_all(self.state.pool())
            .await
            .map_err(not_read)?;
        let mut n_removed = 0;
        for (id,) in expired {
            match self.remove(&id).await {
                Ok(()) => n_removed += 1,
                Err(error) => tracing::warn!(%id, %error, "an expired report cannot be removed"),
            }
        }
        Ok(n_removed)
    }

    /// The file first: what is left after a failure is still named, and is tried again.
    async fn remove(&self, id: &str) -> Result<()> {
        let is_ours = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_ours {
            match tokio::fs::remove_dir_all(self.folder.join(id)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(not_written(error)),
                _ => {}
            }
        }
        let deleted = sqlx::query("DELETE FROM reports WHERE id = $1")
            .bind(id)
            .execute(self.state.pool())
            .await;
        deleted.map(|_| ()).map_err(not_written)
    }
}

/// Who owns a report, as the column `owner` holds it: as of tasks, SHA-256 of [`Principal::owner`], in hex.
fn owner(principal: &Principal) -> String {
    hex::encode(Sha256::digest(principal.owner().as_bytes()))
}

/// True for who keeps the books of the whole tenant.
fn reads_all(principal: &Principal) -> bool {
    principal.can(Scope::FinopsWrite) && principal.rows().is_empty()
}

fn kept(row: StoredRow) -> Kept {
    let (id, kind, title, mime_type, file, size_bytes, sha256, created_at_us, expires_at_us) = row;
    Kept {
        id,
        kind,
        title,
        mime_type,
        file_name: file.rsplit('/').next().unwrap_or_default().to_owned(),
        size_bytes,
        sha256,
        created_at_us,
        expires_at_us,
    }
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "there is no such report; GET /api/v1/reports lists yours, POST makes one, each is kept for 30 days",
    )
}

fn not_written(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the report could not be written or removed").with_source(error)
}

fn not_read(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the reports cannot be read").with_source(error)
}
