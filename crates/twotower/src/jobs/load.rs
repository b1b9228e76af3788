//! Writes a model's vectors from files into the database, several files at once. [`super::update`]
//! computes the vectors instead; the steps after that are the same.

mod writing;

use super::Retry;
use super::check::Expected;
use super::gate::{Challenger, Gate};
use super::generation::{Generation, Switching};
use super::publisher::{Published, Publisher};
use super::update::UpdateReport;
use crate::config::Update;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::vectors::{Part, VectorsFolder};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use twotower_core::embedding::Embeddings;
use twotower_core::model::Model;
use twotower_store::model_files::{self, Manifest};
use twotower_store::{Snapshot, SnapshotOptions, Source, Store, StoreKind, VectorTable, sha256};
use writing::Writing;

/// Options of a load.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadOptions {
    /// The model's folder, `models/<version>`.
    pub(crate) model: PathBuf,
    /// The folder of vectors.
    pub(crate) from: PathBuf,
    /// Number of connections that write concurrently; SQLite has one.
    pub(crate) connections: u32,
    /// Make the version active; otherwise it becomes a candidate.
    pub(crate) activate: bool,
    /// Judges the version before it becomes active.
    pub(crate) gate: Option<Gate>,
    /// Make the version active even if the gate refuses it or an experiment ends with it.
    pub(crate) force: bool,
    /// Index, lease and attempts, and the batch size for a version that is already active.
    pub(crate) settings: Update,
}

/// The result of a load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LoadReport {
    /// As for an update.
    #[serde(flatten)]
    pub(crate) update: UpdateReport,
    /// Number of vectors left out because their videos are not in the catalogue of the database.
    pub(crate) unknown_videos: u64,
    /// Number of vectors left out because their users were erased.
    pub(crate) erased_users: u64,
    /// Number of connections used.
    pub(crate) connections: u32,
    /// Wall time of writing vectors, seconds.
    pub(crate) write_seconds: f64,
}

/// Writes the vectors of a folder into the database as those of a model, and makes it the version
/// that readers see if [`LoadOptions::activate`] says so.
///
/// Safe to interrupt and to run again, as [`super::update`] is: rows that are there already stay as
/// they are. A version that is not active ends up with the vectors of the folder and no others; in
/// the active version, they are replaced or added.
///
/// # Errors
/// Before anything is written: the vectors are of another model, another model has its number, or
/// the files are not as they were written. Later: a row is no vector, the store fails, or the gate
/// refuses the version. The active version stays then.
pub(crate) async fn load(
    store: &Store,
    source: &Source,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Published<LoadReport>> {
    let (folder, from) = (options.model.clone(), options.from.clone());
    let stop = interrupt.clone();
    let opened = tokio::task::spawn_blocking(move || Input::open(&folder, &from, &stop));
    let input = opened.await??;
    let publisher = match Publisher::begin(store, &options.settings).await? {
        Ok(publisher) => publisher,
        Err(holder) => return Ok(Published::Held(holder)),
    };
    let connections = match store.kind() {
        StoreKind::Postgres => options.connections.max(1),
        StoreKind::Sqlite => 1,
    };
    let store = publisher.store().clone();
    let writers = store.apart(connections);
    let run = Run {
        store: &store,
        writers: &writers,
        connections,
        source,
        options,
        retry: Retry::new(options.settings.attempts),
        interrupt,
    };
    let report = publisher.publish(Box::pin(run.run(input))).await;
    if store.kind() == StoreKind::Postgres {
        writers.close().await;
    }
    report.map(Published::Done)
}

/// The content of the files, checked.
struct Input {
    model: Model,
    manifest: Manifest,
    parts: Vec<(VectorTable, Part)>,
    /// Kinds that the folder has, without a single vector.
    none_of: Vec<VectorTable>,
    videos: u64,
    users: Option<u64>,
}

impl Input {
    fn open(folder: &Path, from: &Path, interrupt: &Interrupt) -> anyhow::Result<Self> {
        ensure!(
            model_files::is_model(folder),
            "{} is no folder of a model: name the version that the vectors were computed with, as in --model models/7",
            folder.display()
        );
        let (model, manifest) = model_files::load(folder).context("load the model")?;
        let vectors = VectorsFolder::open(from)?;
        let path = folder.join("manifest.json");
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        vectors.is_of(&manifest, &sha256(&bytes))?;
        vectors.verify(interrupt)?;
        let videos = vectors.manifest.videos.rows;
        let users = vectors.manifest.users.as_ref().map(|users| users.rows);
        let (mut parts, mut none_of) = (Vec::new(), Vec::new());
        for (table, rows) in [
            (VectorTable::Videos, Some(videos)),
            (VectorTable::Users, users),
        ] {
            parts.extend(vectors.parts(table)?.into_iter().map(|part| (table, part)));
            none_of.extend((rows == Some(0)).then_some(table));
        }
        Ok(Self {
            model,
            manifest,
            parts,
            none_of,
            videos,
            users,
        })
    }
}

/// One load.
struct Run<'a> {
    store: &'a Store,
    /// The same store, with a connection pool of its own.
    writers: &'a Store,
    connections: u32,
    source: &'a Source,
    options: &'a LoadOptions,
    retry: Retry,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    async fn run(&self, input: Input) -> anyhow::Result<LoadReport> {
        let started = Instant::now();
        let (store, retry) = (self.store, &self.retry);
        let folder = &self.options.model;
        let models = folder.parent().unwrap_or(Path::new(""));
        let active = retry
            .call("read the registry", || store.active_model())
            .await?
            .map(|record| record.version);
        let version = input.manifest.version;
        let dim = input.manifest.hyperparameters.embedding_dim;
        let generation = Generation {
            store,
            retry,
            settings: &self.options.settings,
            version,
            dim,
            active,
        };
        if self.options.activate {
            generation.ensure_not_older(folder)?;
        }
        generation.ensure_registered_as(&input.manifest).await?;
        let known = retry
            .call("read the catalogue", || store.source_video_ids(self.source))
            .await?;
        generation.register(&input.manifest).await?;
        let writing = Writing {
            run: self,
            version,
            dim,
            is_live: generation.is_live(),
            known: known.into_iter().collect(),
            progress: Mutex::new(Progress::start(
                "vectors",
                input.videos + input.users.unwrap_or(0),
            )),
            totals: Mutex::default(),
        };
        let written = writing.write(&input).await?;
        let write_seconds = started.elapsed().as_secs_f64();
        generation
            .prepare(&input.model, written.videos.total() as u64)
            .await?;
        let mut update = UpdateReport::of_vectors(&generation, written.videos, written.users);
        if !generation.is_live() {
            let expected = Expected {
                videos: written.videos.total() as u64,
                users: input.users.map(|_| written.users.total() as u64),
            };
            let switching = Switching {
                switch: self.options.activate,
                force: self.options.force,
                reason: "load",
                gate: self.options.gate.as_ref(),
                models,
            };
            let challenger = self.challenger(input, version, dim);
            // If a user is erased while this runs, the check fails; the next run repairs that.
            let finished = generation.finish(&switching, expected, async || Ok(0), challenger);
            update.add(Box::pin(finished).await?);
        }
        update.seconds = started.elapsed().as_secs_f64();
        Ok(LoadReport {
            update,
            unknown_videos: written.unknown_videos,
            erased_users: written.erased_users,
            connections: self.connections,
            write_seconds,
        })
    }

    /// The version as the gate judges it, with the vectors that readers would see. Videos added
    /// after these vectors were computed get theirs here, as they would by the next update.
    async fn challenger(
        &self,
        input: Input,
        version: i64,
        dim: usize,
    ) -> anyhow::Result<(Challenger, Snapshot)> {
        let (store, retry) = (self.store, &self.retry);
        let snapshot = retry
            .call("read likes and videos", || {
                store.read_snapshot(self.source, SnapshotOptions::default())
            })
            .await?;
        let (ids, loaded) = retry
            .call("read the vectors", || {
                store.read_embeddings(VectorTable::Videos, version, dim)
            })
            .await?;
        let catalogue = &snapshot.dataset.catalogue;
        let later = catalogue
            .videos()
            .filter(|video| ids.binary_search(&video.id).is_err());
        let of_later = input
            .model
            .embed_videos(later)
            .context("embed the videos")?;
        let (mut videos, mut next) = (Embeddings::new(dim), 0);
        for video in catalogue.videos() {
            let vector = if let Ok(row) = ids.binary_search(&video.id) {
                loaded.row(row)
            } else {
                next += 1;
                of_later.row(next - 1)
            };
            videos.push(vector).context("the vector of a video")?;
        }
        let challenger = Challenger {
            model: input.model,
            manifest: input.manifest,
            videos,
        };
        Ok((challenger, snapshot))
    }
}
