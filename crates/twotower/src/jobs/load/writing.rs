//! Writes row groups of vectors into the database, several at once.

use super::{Input, Run};
use crate::jobs::update::{Changes, Scope, TablePlan, fingerprint};
use crate::progress::Progress;
use crate::vectors::{self, Batch, Part};
use anyhow::anyhow;
use futures_util::future::try_join_all;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;
use twotower_store::{EmbeddingRow, VectorTable};
use uuid::Uuid;

/// Number of vectors in a transaction, for a version that is not active: a statement of some
/// megabytes. Writing to the active version takes longer, because it has an index.
const BATCH: usize = 10_000;

/// Number of batches of a part that may wait for the database.
const AHEAD: usize = 2;

/// Totals of what has been written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) videos: Changes,
    pub(super) users: Changes,
    pub(super) unknown_videos: u64,
    pub(super) erased_users: u64,
    rows: u64,
}

/// A load in progress.
pub(super) struct Writing<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) version: i64,
    pub(super) dim: usize,
    /// Whether readers see the version.
    pub(super) is_live: bool,
    /// Ids of the catalogue.
    pub(super) known: HashSet<Uuid>,
    pub(super) progress: Mutex<Progress>,
    pub(super) totals: Mutex<Totals>,
}

impl Writing<'_> {
    /// Writes all parts, one per connection at a time.
    pub(super) async fn write(self, input: &Input) -> anyhow::Result<Totals> {
        for &table in &input.none_of {
            let all = Batch {
                ids: Vec::new(),
                numbers: Vec::new(),
                from: Uuid::nil(),
                until: None,
            };
            self.batch(table, &all, &[]).await?;
        }
        let next = AtomicUsize::new(0);
        let writer = || async {
            while let Some((table, part)) = input.parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.part(*table, part).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        try_join_all((0..self.run.connections).map(|_| writer())).await?;
        let totals = *self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(progress) = self.progress.into_inner() {
            progress.finish(&format!(
                "videos: {}; users: {}",
                totals.videos, totals.users
            ));
        }
        Ok(totals)
    }

    /// Writes one part. A thread reads the file; this task writes to the database.
    async fn part(&self, table: VectorTable, part: &Part) -> anyhow::Result<()> {
        let size = if self.is_live {
            self.run.options.settings.batch_size
        } else {
            BATCH
        };
        let (sender, mut batches) = mpsc::channel(AHEAD);
        let (dim, of_thread) = (self.dim, part.clone());
        let reader = tokio::task::spawn_blocking(move || {
            vectors::read(&of_thread, dim, size, &mut |batch| {
                let fingerprints = fingerprints(&batch, dim);
                match sender.blocking_send((batch, fingerprints)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
        });
        while let Some((batch, fingerprints)) = batches.recv().await {
            self.batch(table, &batch, &fingerprints).await?;
            self.run.interrupt.check()?;
        }
        reader
            .await
            .map_err(|_| anyhow!("the reader of vectors gave up: a file is damaged"))?
    }

    /// Makes the rows within the batch's range of ids equal to the batch.
    async fn batch(
        &self,
        table: VectorTable,
        batch: &Batch,
        fingerprints: &[i64],
    ) -> anyhow::Result<()> {
        let (store, retry, version) = (self.run.writers, &self.run.retry, self.version);
        let left_out = self.left_out(table, &batch.ids).await?;
        let stored = retry
            .call("read what is stored", || {
                store.fingerprints_between(table, version, batch.from, batch.until)
            })
            .await?;
        let wanted = batch
            .ids
            .iter()
            .zip(fingerprints)
            .enumerate()
            .map(|(place, (&id, &fingerprint))| (place, id, fingerprint))
            .filter(|(_, id, _)| !left_out.contains(id));
        let mut plan = TablePlan::new(|_| false, wanted, stored, Scope::Changed);
        if self.is_live {
            // Updates write vectors of users and videos that came after the folder's vectors were
            // computed.
            plan.remove.clear();
            plan.changes.removed = 0;
        }
        let rows: Vec<EmbeddingRow<'_>> = plan
            .write
            .iter()
            .map(|&(place, fingerprint)| EmbeddingRow {
                id: batch.ids[place],
                fingerprint,
                vector: &batch.numbers[place * self.dim..(place + 1) * self.dim],
            })
            .collect();
        let all_new = plan.changes.changed == 0;
        retry
            .call("write vectors", || async {
                if all_new {
                    store.insert_embeddings(table, version, &rows).await
                } else {
                    store.write_embeddings(table, version, &rows).await
                }
            })
            .await?;
        if !plan.remove.is_empty() {
            retry
                .call("remove vectors", || {
                    store.delete_embeddings(table, version, &plan.remove)
                })
                .await?;
        }
        self.count(table, &plan, batch.ids.len(), left_out.len());
        Ok(())
    }

    /// Those of `ids` that are not written: videos that are not in the catalogue, users who were
    /// erased.
    async fn left_out(&self, table: VectorTable, ids: &[Uuid]) -> anyhow::Result<HashSet<Uuid>> {
        if table == VectorTable::Videos {
            let gone = ids.iter().filter(|id| !self.known.contains(id));
            return Ok(gone.copied().collect());
        }
        let store = self.run.writers;
        let erased = self
            .run
            .retry
            .call("ask who was erased", || store.erased_users(ids))
            .await?;
        Ok(erased.into_iter().collect())
    }

    fn count(&self, table: VectorTable, plan: &TablePlan, rows: usize, left_out: usize) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.rows += rows as u64;
        match table {
            VectorTable::Videos => {
                totals.videos += plan.changes;
                totals.unknown_videos += left_out as u64;
            }
            VectorTable::Users => {
                totals.users += plan.changes;
                totals.erased_users += left_out as u64;
            }
        }
        let rows = totals.rows;
        drop(totals);
        if let Ok(mut progress) = self.progress.lock() {
            progress.set(rows, "");
        }
    }
}

/// Fingerprints of the vectors themselves, because their inputs are not known. So the next update
/// recomputes them, while a repeated load does not write them again.
fn fingerprints(batch: &Batch, dim: usize) -> Vec<i64> {
    let mut bytes = Vec::with_capacity(4 * dim);
    let vectors = batch.numbers.chunks_exact(dim);
    vectors
        .map(|vector| {
            bytes.clear();
            bytes.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
            fingerprint(&bytes)
        })
        .collect()
}
