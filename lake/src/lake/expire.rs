//! Expiry: files past their table's retention leave it, in one commit per table.
//!
//! The commit is a Delta `DELETE` of whole files, so every reader of the table sees it, and no row is rewritten.
//! The files themselves stay for the grace period, for whoever reads an older version, and vacuum removes them.
//! If settlement or compaction replaced one of the files meanwhile, the look is taken again.

use super::{Inner, Lake};
use crate::data_file::format_day;
use crate::error::{ErrorKind, Result};
use crate::retention::{self, ExpireReport, RetentionOptions, TableExpiry, first_kept_day};
use crate::table_log::Change;
use crate::tables::Table;

/// Looks at a table whose files are being replaced; the next expiry makes up for it.
const EXPIRE_ATTEMPTS: usize = 8;

/// Files that retention removed from a table since the lake was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExpiredTotal {
    pub(super) n_files: u64,
    pub(super) n_rows: u64,
    pub(super) bytes: u64,
}

impl Lake {
    /// Removes what is past its table's retention ([`crate::LakeOptions::retention`]); returns what it removed.
    ///
    /// # Errors
    /// `Busy` if the store does not answer or the files of a table keep changing; what was removed before stays
    /// removed. `Invalid` for a read-only lake.
    pub async fn expire(&self) -> Result<ExpireReport> {
        self.inner.check_writable()?;
        self.inner.expire().await
    }

    /// What [`Lake::expire`] would remove now under these settings. Changes nothing.
    #[must_use]
    pub fn expiring(&self, retention: &RetentionOptions) -> ExpireReport {
        let tables = Table::ALL
            .into_iter()
            .map(|table| self.inner.expired(table, retention).report(table, retention.of(table)))
            .collect();
        ExpireReport { tables }
    }
}

impl Inner {
    pub(super) async fn expire(&self) -> Result<ExpireReport> {
        let mut report = ExpireReport::default();
        for table in Table::ALL {
            let expiry = self.expire_table(table).await?;
            if expiry.n_files > 0 {
                tracing::info!(
                    table = expiry.table,
                    files = expiry.n_files,
                    rows = expiry.n_rows,
                    bytes = expiry.bytes,
                    last_day = expiry.last_day,
                    "retention removed old files"
                );
            }
            report.tables.push(expiry);
        }
        Ok(report)
    }

    async fn expire_table(&self, table: Table) -> Result<TableExpiry> {
        let slot = self.shared.slot(table);
        let keep = self.options.retention.of(table);
        let mut attempt = 1;
        loop {
            let expired = self.expired(table, &self.options.retention);
            let expiry = expired.report(table, keep);
            if expired.files.is_empty() {
                return Ok(expiry);
            }
            let first_kept = first_kept_day(keep, self.clock.now_ns());
            let change = Change {
                data_change: true,
                operation: "DELETE",
                predicate: first_kept.map(|day| format!("day < '{}'", format_day(day))),
                ..Change::default()
            };
            let removes: Vec<String> = expired.files.into_iter().map(|file| file.path).collect();
            match self.apply_change(slot, change, &removes).await {
                Err(error) if error.kind() == ErrorKind::Busy && attempt < EXPIRE_ATTEMPTS => attempt += 1,
                result => {
                    result?;
                    let mut total = slot.expired.lock();
                    total.n_files += expiry.n_files;
                    total.n_rows += expiry.n_rows;
                    total.bytes += expiry.bytes;
                    return Ok(expiry);
                }
            }
        }
    }

    fn expired(&self, table: Table, retention: &RetentionOptions) -> retention::Expired {
        let positions = *self.shared.positions.borrow();
        let state = self.shared.slot(table).state.lock();
        retention::expired(
            table,
            state.files(),
            retention.of(table),
            self.clock.now_ns(),
            &positions,
        )
    }
}
