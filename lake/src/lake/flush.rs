//! Flushing: seal the hot rows, write them as files, commit once per table, trim the log.
//!
//! The commit of each table carries the log position it covers, so a crash anywhere in here is repaired by
//! replaying, for each table, what lies beyond its position. Sealed rows stay visible until the commit that
//! holds them is applied. A flush that fails leaves them sealed, and the next one starts with them.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;

use super::commit::Rows;
use super::{Inner, Lake, Positions, TableSlot};
use crate::error::{Context, Result};
use crate::table_log::Change;
use crate::tables::Table;
use crate::window;

impl Lake {
    /// Writes everything acknowledged so far into the tables and returns how far each step has come.
    ///
    /// # Errors
    /// `Busy` if the store does not take the files now; nothing is lost, and the next flush tries again.
    pub async fn flush(&self) -> Result<Positions> {
        self.inner.check_writable()?;
        self.inner.flush().await
    }
}

impl Inner {
    pub(super) async fn flush(&self) -> Result<Positions> {
        let _one_at_a_time = self.flush_lock.lock().await;
        loop {
            let leftover = self.raw_slots().any(|slot| slot.state.lock().sealed().is_some());
            if !leftover {
                self.seal();
            }
            let flushes = self.raw_slots().map(|slot| self.flush_table(slot));
            let results = futures::future::join_all(flushes).await;
            self.shared.count_hot_bytes();
            results.into_iter().collect::<Result<()>>()?;
            let (flushed, flushed_ns) = {
                let gate = self.shared.gate.lock();
                (gate.sealed_through, gate.sealed_arrived_ns)
            };
            self.shared.positions.send_if_modified(|positions| {
                let advanced = positions.flushed < flushed;
                if advanced {
                    positions.flushed = flushed;
                    positions.flushed_ns = flushed_ns;
                }
                advanced
            });
            self.trim(flushed).await;
            if !leftover {
                return Ok(*self.shared.positions.borrow());
            }
        }
    }

    fn raw_slots(&self) -> impl Iterator<Item = &Arc<TableSlot>> {
        Table::RAW.into_iter().map(|table| self.shared.slot(table))
    }

    /// Sets all hot rows aside, up to one sequence for all tables.
    fn seal(&self) {
        let mut gate = self.shared.gate.lock();
        for slot in self.raw_slots() {
            slot.state.lock().seal(gate.last_sequence);
        }
        gate.sealed_through = gate.last_sequence;
        gate.sealed_arrived_ns = gate.last_arrived_ns;
    }

    async fn flush_table(&self, slot: &Arc<TableSlot>) -> Result<()> {
        let Some(sealed) = slot.state.lock().sealed().cloned() else {
            return Ok(());
        };
        let written = self.write_files(slot.table, sealed.batches, None, Rows::All).await?;
        let change = Change {
            adds: written.adds,
            txns: vec![(
                self.options.node.clone(),
                i64::try_from(sealed.through).unwrap_or(i64::MAX),
            )],
            data_change: true,
            operation: "WRITE",
            ..Change::default()
        };
        self.apply_change(slot, change, &[]).await.map(|_| ())
    }

    /// Removes log segments that the tables cover, after the window no longer needs them.
    async fn trim(&self, flushed: u64) {
        let trimmable = match &self.writing.read().wal {
            Some(wal) => wal.n_trimmable(flushed) > 0,
            None => false,
        };
        if !trimmable {
            return;
        }
        let result = match self.save_window().await {
            Ok(()) => match &self.writing.read().wal {
                Some(wal) => wal.trim(flushed).map(|_| ()),
                None => Ok(()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // The log stays longer than needed, nothing else.
            tracing::warn!(%error, "cannot trim the write-ahead log");
        }
    }

    pub(super) async fn save_window(&self) -> Result<()> {
        // The watermark first: entries beyond it do no harm, entries missing below it would.
        let watermark = self.watermark();
        let content = self.shared.window.lock().encode(watermark);
        let files = Arc::clone(&self.files);
        let dir = self.wal_dir.clone();
        tokio::task::spawn_blocking(move || window::save(files.as_ref(), &dir, &content))
            .await
            .or_internal(|| "the task that writes the window ended early".to_owned())?
    }
}

/// Flushes whenever the interval has passed or the hot buffer is full, until told to stop.
pub(super) async fn flush_loop(lake: Weak<Inner>, mut stop: watch::Receiver<bool>, interval: Duration) {
    loop {
        // The pause must not keep the lake alive.
        let Some(shared) = lake.upgrade().map(|inner| Arc::clone(&inner.shared)) else {
            return;
        };
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(interval) => {}
            () = shared.flush_now.notified() => {}
        }
        let Some(inner) = lake.upgrade() else { return };
        let positions = *inner.shared.positions.borrow();
        if positions.flushed < positions.acknowledged
            && let Err(error) = inner.flush().await
        {
            tracing::warn!(%error, "flush failed; the rows stay in memory and in the log");
        }
    }
}
