//! Control state: what is small, changes, and must survive a restart. API keys, the audit log, tasks, budgets.
//!
//! Sits below everything that remembers: [`State::open`] gives a pool of connections to one SQLite file in
//! the data folder, with all tables made by `state/migrations`. The crates above own their tables' queries;
//! this one owns the file, the migrations and nothing else.
//!
//! Guarantee: a statement that has returned is on stable storage (`synchronous = FULL`), and another process
//! of the same folder (`spanledger keys revoke` beside `serve`) is seen by the next statement. It does not
//! hold telemetry, money or secrets: of a key it holds a digest.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// The library, for the owners of tables.
pub use sqlx;
/// The pool every owner of a table runs its statements on.
pub use sqlx::SqlitePool;

/// Path of the file inside the data folder.
pub const FILE: &str = "state/spanledger.db";
/// Connections of one process: statements are short, and SQLite has one writer.
const CONNECTIONS_MAX: u32 = 8;
/// How long a statement waits for another process's write: longer than any of ours takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Number, name and text of each migration, in order. Never edited once released: a change is a new one.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "access", include_str!("../migrations/0001_access.sql")),
    (2, "tasks", include_str!("../migrations/0002_tasks.sql")),
    (3, "budgets", include_str!("../migrations/0003_budgets.sql")),
];

/// The file cannot be opened, or was written by a newer version.
#[derive(Debug, thiserror::Error)]
#[error("the control state {path} cannot be opened: {source}", path = path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: Source,
}

#[derive(Debug, thiserror::Error)]
enum Source {
    #[error("{0}")]
    Folder(#[from] std::io::Error),
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("{0}; it may have been written by a newer version")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// An open control state. Clones share its connections.
#[derive(Debug, Clone)]
pub struct State {
    pool: SqlitePool,
}

impl State {
    /// Opens the control state of a data folder, making file and tables where they are missing.
    ///
    /// # Errors
    /// [`Error`], naming the file: it cannot be written, or a newer version made it.
    pub async fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join(FILE);
        Self::open_file(&path).await.map_err(|source| Error { path, source })
    }

    /// True where a data folder has a control state: a command that only reads need not make one.
    #[must_use]
    pub fn exists(data: &Path) -> bool {
        data.join(FILE).is_file()
    }

    async fn open_file(path: &Path) -> Result<Self, Source> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await?;
        migrator().run(&pool).await?;
        Ok(Self { pool })
    }

    /// Where to run statements.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Ends all connections, so that the file is whole without its log.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.map(|(version, name, text)| {
        Migration::new(
            version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(text),
            false,
        )
    });
    Migrator::with_migrations(migrations.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn a_state_is_made_once_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!State::exists(folder.path()));
        let state = State::open(folder.path()).await.unwrap();
        assert!(State::exists(folder.path()));
        state.close().await;
        let again = State::open(folder.path()).await.unwrap();
        let (tables,): (i64,) = sqlx::query_as("SELECT count(*) FROM sqlite_master WHERE name = 'api_keys'")
            .fetch_one(again.pool())
            .await
            .unwrap();
        assert_eq!(tables, 1);
    }

    #[tokio::test]
    async fn a_state_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'later', TRUE, x'00', 0)")
            .execute(state.pool())
            .await
            .unwrap();
        state.close().await;
        let error = State::open(folder.path()).await.unwrap_err().to_string();
        assert!(error.contains("newer version") && error.contains(FILE), "{error}");
    }
}
