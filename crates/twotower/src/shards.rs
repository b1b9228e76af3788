//! Training shards: catalogue, likes and skips as Parquet files in the order of users, as `twotower prepare` packs them
//! (docs/scaling.md has the format).
//!
//! They are read once, into memory or into a file beside the models that is found and read user by user from there on. The
//! numbers of users and the cuts into training, validation and test are those of a snapshot of a database with the same rows,
//! so that the same model comes of it.

mod manifest;

mod rows;

mod cut;

mod events;

mod histories;

pub use manifest::MANIFEST;

use crate::shards::cut::Cuts;
use crate::shards::histories::{Histories, Seen};
use crate::shards::manifest::Manifest;
use anyhow::ensure;
use std::io;
use std::path::Path;
use std::sync::Arc;
use twotower_core::feature::Catalogue;
use twotower_core::interaction::Event;
use twotower_core::split::{HeldOut, HeldOutUser, Phase, SplitKind};
use twotower_core::timeline::Timelines;

/// Where likes and skips are kept while they are learned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// In memory.
    InMemory,
    /// In a file without a name in this folder, which goes with the process.
    InFolder(&'a Path),
}

/// A folder of shards, opened.
#[derive(Debug)]
pub(crate) struct Shards {
    manifest: Manifest,
    sha256: String,
    catalogue: Catalogue,
    histories: Arc<Histories>,
}

impl Shards {
    /// Reads a folder of shards, and checks everything in it.
    ///
    /// # Errors
    /// If a file is missing, damaged, or not what a shard is; or if the disk fails.
    pub(crate) fn open(folder: &Path, split: SplitKind, keep: Keep<'_>) -> anyhow::Result<Self> {
        let (manifest, sha256) = Manifest::read(folder)?;
        let path = folder.join(&manifest.catalogue.name);
        manifest.catalogue.check(&path)?;
        let videos = crate::import::videos_of_parquet(&path)?;
        ensure!(
            videos.len() as u64 == manifest.videos && videos.is_sorted_by_key(|video| video.id),
            "{}: {} videos in ascending order of id were expected; prepare the shards again",
            path.display(),
            manifest.videos
        );
        let catalogue = Catalogue::new(videos)?;
        let cuts = Cuts::new(split, &manifest.temporal);
        let histories = Histories::read(folder, &manifest, &cuts, keep)?;
        Ok(Self {
            manifest,
            sha256,
            catalogue,
            histories: Arc::new(histories),
        })
    }

    /// Numbers of likes, skips, users and videos, and times.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the manifest, which names every file by its own; hex.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Time of the earliest like, seconds since 1970.
    pub(crate) fn earliest_like(&self) -> Option<u32> {
        self.histories.earliest_like
    }

    /// Time of the latest like that is seen before test, seconds since 1970.
    pub(crate) fn learned_until(&self) -> Option<u32> {
        self.histories.learned_until
    }

    /// What is seen before `phase`.
    pub(crate) fn timelines(&self, phase: Phase) -> Arc<dyn Timelines> {
        Arc::new(Seen::new(self.histories.clone(), phase))
    }

    /// The users of whom a like is held out in `phase`; with `warm` only those of whom one is seen.
    pub(crate) fn held_out_users(&self, phase: Phase, warm: bool) -> Vec<usize> {
        let seen = Seen::new(self.histories.clone(), phase);
        (0..seen.users())
            .filter(|&user| seen.held_out(user) > 0 && (!warm || seen.lengths(user).0 > 0))
            .collect()
    }

    /// What is seen of `users` before `phase`, and what is to be found.
    pub(crate) fn held_out(&self, phase: Phase, users: &[usize]) -> io::Result<HeldOut> {
        let seen = Seen::new(self.histories.clone(), phase);
        let mut events = Vec::new();
        let mut of_user = |user: usize| {
            events.clear();
            let parts = seen.read_held_out(user, &mut events)?;
            let items = |events: &[Event]| events.iter().map(|event| event.item).collect();
            Ok(HeldOutUser {
                user: user as u32,
                likes: items(&events[parts.likes]),
                skips: items(&events[parts.skips]),
                targets: items(&events[parts.targets]),
            })
        };
        let users = users.iter().map(|&user| of_user(user));
        Ok(HeldOut {
            users: users.collect::<io::Result<_>>()?,
        })
    }
}
