use super::plan::{Plan, TablePlan};
use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::progress::Progress;
use anyhow::Context;
use twotower_core::embedding::Embeddings;
use twotower_core::interaction::History;
use twotower_core::model::{Model, TwoTower};
use twotower_store::{EmbeddingRow, Snapshot, Store, VectorTable};
use uuid::Uuid;

/// Writes the vectors of one model into the store.
pub(super) struct Writer<'a> {
    pub(super) store: &'a Store,
    pub(super) retry: &'a Retry,
    pub(super) snapshot: &'a Snapshot,
    pub(super) model: &'a Model,
    pub(super) plan: &'a Plan,
    pub(super) version: i64,
    /// Number of rows in a transaction.
    pub(super) batch_size: usize,
    pub(super) interrupt: &'a Interrupt,
}

impl Writer<'_> {
    /// Returns the vectors of all videos, in the catalogue's order.
    pub(super) async fn write(&self) -> anyhow::Result<Embeddings> {
        let catalogue = &self.snapshot.dataset.catalogue;
        // Users need the vectors of all videos in their histories. Embedding a video takes
        // microseconds.
        let vectors = self
            .model
            .embed_videos(catalogue.videos())
            .context("embed the videos")?;
        let video = |position: usize| catalogue.id(position);
        self.table(VectorTable::Videos, &self.plan.videos, video, |batch| {
            let mut rows = Embeddings::new(vectors.dim());
            for &(position, _) in batch {
                rows.push(vectors.row(position)).context("embed a video")?;
            }
            Ok(rows)
        })
        .await?;
        let user = |position: usize| self.snapshot.users[position];
        self.table(VectorTable::Users, &self.plan.users, user, |batch| {
            embed_users(self.model, &vectors, self.plan, batch)
        })
        .await?;
        Ok(vectors)
    }

    /// Applies the plan for vectors of one kind: writes batch by batch, then removes.
    async fn table(
        &self,
        table: VectorTable,
        plan: &TablePlan,
        id: impl Fn(usize) -> Uuid,
        embed: impl Fn(&[(usize, i64)]) -> anyhow::Result<Embeddings>,
    ) -> anyhow::Result<()> {
        let name = match table {
            VectorTable::Videos => "videos",
            VectorTable::Users => "users",
        };
        let mut progress = Progress::start(name, plan.write.len() as u64);
        let mut done = 0;
        for batch in plan.write.chunks(self.batch_size.max(1)) {
            let vectors = embed(batch)?;
            let numbered = batch.iter().enumerate();
            let rows: Vec<EmbeddingRow<'_>> = numbered
                .map(|(row, &(position, fingerprint))| EmbeddingRow {
                    id: id(position),
                    fingerprint,
                    vector: vectors.row(row),
                })
                .collect();
            self.retry
                .run("write vectors", || {
                    self.store.write_embeddings(table, self.version, &rows)
                })
                .await
                .with_context(|| format!("write vectors of {name}"))?;
            done += batch.len();
            progress.set(done as u64, "");
            self.interrupt.check()?;
        }
        self.retry
            .run("remove vectors", || {
                self.store
                    .delete_embeddings(table, self.version, &plan.remove)
            })
            .await
            .with_context(|| format!("remove vectors of {name}"))?;
        progress.finish(&plan.changes.to_string());
        Ok(())
    }
}

fn embed_users(
    model: &Model,
    vectors: &Embeddings,
    plan: &Plan,
    batch: &[(usize, i64)],
) -> anyhow::Result<Embeddings> {
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: vectors,
    };
    let mut embedded = Embeddings::new(vectors.dim());
    for &(user, _) in batch {
        // Every user of a snapshot has at least one like or skip, and so a vector.
        let vector = towers
            .embed_user(History {
                likes: plan.likes.of(user),
                skips: plan.skips.of(user),
            })
            .context("a user without likes and skips")?;
        embedded.push(&vector).context("embed a user")?;
    }
    Ok(embedded)
}
