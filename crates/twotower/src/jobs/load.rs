//! A model's vectors from files into the database, where [`super::update`] computes them: several files at once, then the same way to readers.

mod writing;

use super::gate::{Challenger, Gate};
use super::generation::{Completed, Generation, Switching, Wanted};
use super::publisher::{Publisher, Publishing};
use super::update::UpdateReport;
use super::{Interrupt, Retry};
use crate::config::Update;
use crate::progress::Progress;
use crate::sha256;
use crate::vectors::{Part, VectorsFolder};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use twotower_core::embedding::Embeddings;
use twotower_core::model::Model;
use twotower_store::model_files::{self, Manifest};
use twotower_store::{
    LeaseHolder, Snapshot, SnapshotOptions, Source, Store, StoreKind, VectorTable,
};
use writing::Writing;

/// How to load.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// The model's folder, `models/<version>`.
    pub model: PathBuf,
    /// The folder of vectors.
    pub from: PathBuf,
    /// Connections that write beside each other; SQLite has one.
    pub connections: u32,
    /// Make it the version that readers see; else it becomes a candidate.
    pub activate: bool,
    /// Asked before the version becomes active.
    pub gate: Option<Gate>,
    /// Make it active whatever the gate says.
    pub force: bool,
    /// Index, lease, tries; and the size of batches of a version that is read.
    pub settings: Update,
}

/// What was loaded.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// As of an update.
    #[serde(flatten)]
    pub update: UpdateReport,
    /// Vectors of videos that are not in the catalogue of the database any more, which were left out.
    pub unknown_videos: u64,
    /// Vectors of users who were erased, which were left out.
    pub erased_users: u64,
    /// Connections that were used.
    pub connections: u32,
    /// Wall time of writing vectors, seconds.
    pub write_seconds: f64,
}

/// What came of a load.
#[derive(Debug, Clone)]
pub enum Loaded {
    /// It was done.
    Done(Box<LoadReport>),
    /// Nothing, since another process publishes.
    Held(LeaseHolder),
}

/// Brings the vectors of a folder into the database as those of a model, and makes it the version that readers see if that is wanted.
///
/// Safe to cut off and to run again, as [`super::update`] is: what is there already is left as it is. Of a version that readers do not see
/// nothing else is left in the end; of one that they see, vectors of the folder are replaced or added.
///
/// # Errors
/// Before anything is written: vectors of another model, a number that another model has, and files that are not as they were written. Later: a row that is no vector, an
/// outage, or a refusal of the gate; the active version stays then.
pub async fn load(
    store: &Store,
    source: &Source,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Loaded> {
    let (folder, from) = (options.model.clone(), options.from.clone());
    let stop = interrupt.clone();
    let opened = tokio::task::spawn_blocking(move || Input::open(&folder, &from, &stop));
    let input = opened.await??;
    match Publisher::begin(store, &options.settings).await? {
        Publishing::Held(holder) => Ok(Loaded::Held(holder)),
        Publishing::Begun(publisher) => {
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
            let done = publisher.publish(Box::pin(run.run(input))).await;
            if store.kind() == StoreKind::Postgres {
                writers.close().await;
            }
            done.map(|report| Loaded::Done(Box::new(report)))
        }
    }
}

/// Everything that comes from files, checked.
struct Input {
    model: Model,
    manifest: Manifest,
    parts: Vec<(VectorTable, Part)>,
    /// Kinds that are there and have no vector.
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
        vectors.is_of(&manifest, &sha256::of_bytes(&bytes))?;
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
    /// The same, through connections of their own.
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
            .run("read the registry", || store.active_model())
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
            generation.is_not_older(folder)?;
        }
        generation.is_registered_as(&input.manifest).await?;
        let known = retry
            .run("read the catalogue", || store.source_video_ids(self.source))
            .await
            .context("read the catalogue")?;
        generation.register(&input.manifest).await?;
        let writing = Writing {
            run: self,
            version,
            dim,
            live: generation.live(),
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
        let switch = !generation.live() && self.options.activate;
        let mut verdict = None;
        let mut completed = Completed::default();
        if !generation.live() {
            let wanted = Wanted {
                videos: written.videos.total() as u64,
                users: input.users.map(|_| written.users.total() as u64),
            };
            // Who is erased while this runs is missed by the check, which the next run repairs.
            generation.check(wanted, async || Ok(0)).await?;
            let gate = self.options.gate.as_ref();
            if gate.is_some() {
                let (challenger, snapshot) = self.challenger(input, version, dim).await?;
                verdict = generation
                    .ask_gate(gate, challenger, models, snapshot)
                    .await?;
            }
            let switching = Switching {
                switch,
                force: self.options.force,
                reason: "load",
            };
            completed = generation.complete(&switching, verdict.as_ref()).await?;
        }
        Ok(LoadReport {
            update: UpdateReport {
                version,
                dry_run: false,
                videos: written.videos,
                users: written.users,
                activated: completed.activated,
                active_version: if completed.activated {
                    Some(version)
                } else {
                    active
                },
                held_back_by: completed.held_back_by,
                verdict,
                challenger: None,
                seconds: started.elapsed().as_secs_f64(),
            },
            unknown_videos: written.unknown_videos,
            erased_users: written.erased_users,
            connections: self.connections,
            write_seconds,
        })
    }

    /// What the gate judges: the vectors that readers would see. Videos that came after them get theirs here, as the next update would give
    /// them.
    async fn challenger(
        &self,
        input: Input,
        version: i64,
        dim: usize,
    ) -> anyhow::Result<(Challenger, Snapshot)> {
        let (store, retry) = (self.store, &self.retry);
        let snapshot = retry
            .run("read likes and videos", || {
                store.read_snapshot(self.source, SnapshotOptions::default())
            })
            .await
            .context("read likes and videos")?;
        let (ids, loaded) = retry
            .run("read the vectors", || {
                store.read_embeddings(VectorTable::Videos, version, dim)
            })
            .await
            .context("read the vectors")?;
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
