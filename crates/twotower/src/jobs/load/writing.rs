//! Row groups of vectors on their way into the database, several at once.

use super::{Input, Run};
use crate::jobs::JobError;
use crate::jobs::update::{Changes, TablePlan, fingerprint};
use crate::progress::Progress;
use crate::vectors::{self, Batch, Part};
use anyhow::{Context, anyhow};
use futures_util::future::try_join_all;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;
use twotower_store::{EmbeddingRow, VectorTable};
use uuid::Uuid;

/// Vectors a transaction of a version that nobody reads: a statement of some megabytes. One that is read has an index, which takes its time.
const BATCH: usize = 10_000;

/// Batches of a part that wait for the database.
const AHEAD: usize = 2;

/// What was written so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) videos: Changes,
    pub(super) users: Changes,
    pub(super) unknown_videos: u64,
    pub(super) erased_users: u64,
    rows: u64,
}

/// Parts on their way into the database.
pub(super) struct Writing<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) version: i64,
    pub(super) dim: usize,
    /// Whether readers see the version.
    pub(super) live: bool,
    /// Ids of the catalogue.
    pub(super) known: HashSet<Uuid>,
    pub(super) progress: Mutex<Progress>,
    pub(super) totals: Mutex<Totals>,
}

impl Writing<'_> {
    /// As many parts at once as there are connections.
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

    /// A thread reads, this task writes.
    async fn part(&self, table: VectorTable, part: &Part) -> anyhow::Result<()> {
        let size = if self.live {
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
            if self.run.interrupt.is_set() {
                return Err(JobError::Interrupted.into());
            }
        }
        reader
            .await
            .map_err(|_| anyhow!("the reader of vectors gave up: a file is damaged"))?
    }

    /// Makes the range of ids of a batch what the batch says.
    async fn batch(
        &self,
        table: VectorTable,
        batch: &Batch,
        fingerprints: &[i64],
    ) -> anyhow::Result<()> {
        let (store, retry, version) = (self.run.writers, &self.run.retry, self.version);
        let left_out = self.left_out(table, &batch.ids).await?;
        let stored = retry
            .run("read what is stored", || {
                store.fingerprints_between(table, version, batch.from, batch.until)
            })
            .await
            .context("read what is stored")?;
        let wanted = batch
            .ids
            .iter()
            .zip(fingerprints)
            .enumerate()
            .map(|(place, (&id, &fingerprint))| (place, id, fingerprint))
            .filter(|(_, id, _)| !left_out.contains(id));
        let mut plan = TablePlan::new(|_| false, wanted, stored, false);
        if self.live {
            // Who came after the vectors were computed has one of an update.
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
            .run("write vectors", || async {
                if all_new {
                    store.insert_embeddings(table, version, &rows).await
                } else {
                    store.write_embeddings(table, version, &rows).await
                }
            })
            .await
            .context("write vectors")?;
        if !plan.remove.is_empty() {
            retry
                .run("remove vectors", || {
                    store.delete_embeddings(table, version, &plan.remove)
                })
                .await
                .context("remove vectors")?;
        }
        self.count(table, &plan, batch.ids.len(), left_out.len());
        Ok(())
    }

    /// Videos that are gone, and users who were erased.
    async fn left_out(&self, table: VectorTable, ids: &[Uuid]) -> anyhow::Result<HashSet<Uuid>> {
        if table == VectorTable::Videos {
            let gone = ids.iter().filter(|id| !self.known.contains(id));
            return Ok(gone.copied().collect());
        }
        let store = self.run.writers;
        let erased = self
            .run
            .retry
            .run("ask who was erased", || store.erased_users(ids))
            .await
            .context("ask who was erased")?;
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

/// Of a vector that came from elsewhere nobody knows the inputs: it stands for itself, so that the next update computes it anew, and the same
/// load does not write it again.
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
