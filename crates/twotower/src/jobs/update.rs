//! A model's vectors into the database: only what changed, then one switch.

use super::{Interrupt, JobError};
use crate::progress::Progress;
use anyhow::{Context, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;
use twotower_core::embedding::Embeddings;
use twotower_core::interaction::{History, Sequences};
use twotower_core::model::{Model, TwoTower};
use twotower_store::model_files::{self, Manifest};
use twotower_store::{
    Activation, ActivationKind, EmbeddingRow, ModelState, NewModel, Snapshot, SnapshotOptions,
    Source, Store, VectorTable,
};
use uuid::Uuid;

/// How to update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateOptions {
    /// `models/<version>`, or a folder of models, whose highest version is taken.
    pub model_path: PathBuf,
    /// Read everything, write nothing, say what would change.
    pub dry_run: bool,
    /// Recompute what has not changed, too.
    pub full: bool,
    /// Vectors a transaction.
    pub batch_size: usize,
}

/// What changed (or would change) of one kind of vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Rows that were not there.
    pub new: usize,
    /// Rows whose inputs changed.
    pub changed: usize,
    /// Rows whose video or user is gone.
    pub removed: usize,
    /// Rows left alone.
    pub unchanged: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            new,
            changed,
            removed,
            unchanged,
        } = self;
        write!(
            formatter,
            "{new} new, {changed} changed, {removed} removed, {unchanged} unchanged"
        )
    }
}

/// What an update did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateReport {
    /// Version of the model.
    pub version: i64,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Video vectors.
    pub videos: Changes,
    /// User vectors.
    pub users: Changes,
    /// Whether readers were switched to this version.
    pub activated: bool,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// Brings the vectors of a model up to date and makes it the version that readers see.
///
/// Safe to cut off and to run again: vectors of a version that is not active are seen by nobody, and each batch is one
/// transaction of idempotent writes.
///
/// # Errors
/// If the model cannot be read, or the store fails.
pub async fn update(
    store: &Store,
    source: &Source,
    options: &UpdateOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<UpdateReport> {
    let started = Instant::now();
    let path = options.model_path.clone();
    let (model, manifest) = tokio::task::spawn_blocking(move || model_files::load(&path))
        .await?
        .context("load the model")?;
    let version = manifest.version;
    let active = store.active_model().await?.map(|record| record.version);
    if let Some(active) = active.filter(|&active| active > version) {
        bail!(
            "version {active} is served already and newer than version {version} of {}: name the newer model's folder",
            options.model_path.display()
        );
    }
    let snapshot = store
        .read_snapshot(source, SnapshotOptions::default())
        .await
        .context("read likes and videos")?;
    let plan = Plan::new(store, &snapshot, version, options.full).await?;
    let report = UpdateReport {
        version,
        dry_run: options.dry_run,
        videos: plan.videos.changes,
        users: plan.users.changes,
        activated: !options.dry_run && active != Some(version),
        seconds: 0.0,
    };
    if !options.dry_run {
        if active != Some(version) {
            store
                .register_model(&new_model(&manifest))
                .await
                .context("register the model")?;
        }
        let writer = Writer {
            store,
            snapshot: &snapshot,
            model: &model,
            plan: &plan,
            version,
            batch_size: options.batch_size,
            interrupt,
        };
        writer.write().await?;
        if active != Some(version) {
            store
                .set_model_state(version, ModelState::Candidate)
                .await?;
            store
                .activate_model(&Activation {
                    version,
                    kind: ActivationKind::Loaded,
                    by: "twotower".into(),
                    reason: "update".into(),
                    forced: false,
                })
                .await
                .context("switch readers to the model")?;
        }
    }
    Ok(UpdateReport {
        seconds: started.elapsed().as_secs_f64(),
        ..report
    })
}

fn new_model(manifest: &Manifest) -> NewModel {
    NewModel {
        version: manifest.version,
        embedding_dim: manifest.hyperparameters.embedding_dim,
        cut_off_us: manifest.trained_on.cut_off_us,
        snapshot_sha256: manifest.trained_on.snapshot_sha256.clone(),
        hyperparameters: serde_json::to_value(&manifest.hyperparameters).unwrap_or_default(),
        metrics: manifest.metrics.clone(),
        manifest_sha256: manifest.checksum.clone(),
    }
}

/// What is to be written for one kind of vectors.
#[derive(Debug, Default)]
struct TablePlan {
    /// Positions (of videos in the catalogue, of users in the snapshot) with the fingerprint of their inputs.
    write: Vec<(usize, i64)>,
    remove: Vec<Uuid>,
    changes: Changes,
}

impl TablePlan {
    fn new(
        wanted: impl Iterator<Item = (usize, Uuid, i64)>,
        stored: Vec<(Uuid, i64)>,
        full: bool,
    ) -> Self {
        let mut stored: HashMap<Uuid, i64> = stored.into_iter().collect();
        let mut plan = Self::default();
        for (position, id, fingerprint) in wanted {
            match stored.remove(&id) {
                None => plan.changes.new += 1,
                Some(old) if old != fingerprint || full => plan.changes.changed += 1,
                Some(_) => {
                    plan.changes.unchanged += 1;
                    continue;
                }
            }
            plan.write.push((position, fingerprint));
        }
        plan.remove = stored.into_keys().collect();
        plan.remove.sort_unstable();
        plan.changes.removed = plan.remove.len();
        plan
    }
}

struct Plan {
    likes: Sequences,
    skips: Sequences,
    videos: TablePlan,
    users: TablePlan,
}

impl Plan {
    async fn new(
        store: &Store,
        snapshot: &Snapshot,
        version: i64,
        full: bool,
    ) -> anyhow::Result<Self> {
        let stored_videos = store
            .read_fingerprints(VectorTable::Videos, version)
            .await
            .context("read what is stored")?;
        let stored_users = store
            .read_fingerprints(VectorTable::Users, version)
            .await
            .context("read what is stored")?;
        let dataset = &snapshot.dataset;
        let (likes, skips) = (
            Sequences::new(dataset.users, &dataset.likes),
            Sequences::new(dataset.users, &dataset.skips),
        );
        let videos = dataset.catalogue.videos();
        let of_video: Vec<i64> = videos
            .iter()
            .map(|video| {
                let features = (
                    &video.title,
                    &video.description,
                    &video.genre,
                    &video.maker,
                    video.price,
                    video.duration_seconds,
                );
                let more = (video.published_at_us, &video.tags, &video.performers);
                fingerprint(serde_json::to_vec(&(features, more)).unwrap_or_default())
            })
            .collect();
        // A user's vector is made of the videos' vectors, so that a changed video changes its users too.
        let of_user = |user: usize| {
            let mut bytes = Vec::new();
            for (kind, events) in [(0u8, likes.of(user)), (1u8, skips.of(user))] {
                for event in events {
                    bytes.push(kind);
                    bytes.extend(videos[event.item as usize].id.as_bytes());
                    bytes.extend(of_video[event.item as usize].to_le_bytes());
                }
            }
            fingerprint(bytes)
        };
        let wanted_videos = videos
            .iter()
            .zip(&of_video)
            .enumerate()
            .map(|(position, (video, &fingerprint))| (position, video.id, fingerprint));
        let wanted_users = snapshot
            .users
            .iter()
            .enumerate()
            .map(|(user, &id)| (user, id, of_user(user)));
        let videos = TablePlan::new(wanted_videos, stored_videos, full);
        let users = TablePlan::new(wanted_users, stored_users, full);
        Ok(Self {
            likes,
            skips,
            videos,
            users,
        })
    }
}

/// The first 64 bits of the SHA-256 of `bytes`.
fn fingerprint(bytes: impl AsRef<[u8]>) -> i64 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(8)
        .fold(0i64, |hash, &byte| hash << 8 | i64::from(byte))
}

/// The vectors of one model on their way into the store.
struct Writer<'a> {
    store: &'a Store,
    snapshot: &'a Snapshot,
    model: &'a Model,
    plan: &'a Plan,
    version: i64,
    batch_size: usize,
    interrupt: &'a Interrupt,
}

impl Writer<'_> {
    async fn write(&self) -> anyhow::Result<()> {
        let catalogue = self.snapshot.dataset.catalogue.videos();
        // Users need the vectors of all videos of their histories; embedding the catalogue takes microseconds a video.
        let vectors = self
            .model
            .embed_videos(catalogue)
            .context("embed the videos")?;
        let video = |position: usize| catalogue[position].id;
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
        .await
    }

    /// Writes what is to be written of one kind, batch by batch, then removes what is to be removed.
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
            self.store
                .write_embeddings(table, self.version, &rows)
                .await
                .with_context(|| format!("write vectors of {name}"))?;
            done += batch.len();
            progress.set(done as u64, "");
            if self.interrupt.is_set() {
                return Err(JobError::Interrupted.into());
            }
        }
        self.store
            .delete_embeddings(table, self.version, &plan.remove)
            .await?;
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
        let items = |sequences: &Sequences| {
            sequences
                .of(user)
                .iter()
                .map(|event| event.item)
                .collect::<Vec<_>>()
        };
        let (likes, skips) = (items(&plan.likes), items(&plan.skips));
        // A user of a snapshot has liked or skipped something, so that there is a vector.
        let vector = towers
            .embed_user(History {
                likes: &likes,
                skips: &skips,
            })
            .context("a user without likes and skips")?;
        embedded.push(&vector).context("embed a user")?;
    }
    Ok(embedded)
}
