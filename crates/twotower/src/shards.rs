//! Training shards: catalogue, likes and skips as Parquet files in the order of users, as `twotower prepare` packs them
//! (docs/scaling.md has the format).
//!
//! They are read once, into memory or into a file beside the models that is found and read user by user from there on. The
//! numbers of users and the cuts into training, validation and test are those of a snapshot of a database with the same rows,
//! so that the same model comes of it.

mod manifest;

mod rows;

mod cut;

mod reading;

mod snapshot;

pub use manifest::MANIFEST;

use crate::histories::Histories;
use crate::shards::cut::Cuts;
use crate::shards::manifest::Manifest;
pub(crate) use crate::shards::snapshot::snapshot;
use anyhow::ensure;
use std::path::Path;
use twotower_core::feature::{Catalogue, CatalogueBuilder};
use twotower_core::split::SplitKind;

/// Where likes and skips are kept while they are learned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// In memory.
    InMemory,
    /// In a file without a name in this folder, which goes with the process.
    InFolder(&'a Path),
}

/// What times of rows are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// A model to go on from has seen likes up to this second.
    pub(crate) base_until: Option<u32>,
    /// Now, microseconds since 1970.
    pub(crate) now_us: i64,
}

/// A folder of shards, read.
#[derive(Debug)]
pub(crate) struct Shards {
    /// Numbers of likes, skips, users and videos, and times.
    pub(crate) manifest: Manifest,
    /// SHA-256 of the manifest, which names every file by its own; hex.
    pub(crate) sha256: String,
    /// All videos.
    pub(crate) catalogue: Catalogue,
    pub(crate) histories: Histories,
    /// Time of the earliest like, seconds since 1970.
    pub(crate) earliest_like: Option<u32>,
    /// Time of the latest like or skip that has come by now (of all, where none has), microseconds since 1970.
    pub(crate) cut_off_us: Option<i64>,
}

impl Shards {
    /// Reads a folder of shards, and checks everything in it.
    ///
    /// # Errors
    /// If a file is missing, damaged, or not what a shard is; or if the disk fails.
    pub(crate) fn open(
        folder: &Path,
        split: SplitKind,
        clock: Clock,
        keep: Keep<'_>,
    ) -> anyhow::Result<Self> {
        let (manifest, sha256) = Manifest::read(folder)?;
        let catalogue = catalogue(folder, &manifest)?;
        let cuts = Cuts::new(split, &manifest.temporal);
        let (histories, times) = reading::read(folder, &manifest, &cuts, clock, keep)?;
        Ok(Self {
            cut_off_us: times.latest_come_us.or(manifest.latest_at_us),
            manifest,
            sha256,
            catalogue,
            histories,
            earliest_like: times.earliest_like,
        })
    }
}

/// All videos of a folder, checked.
fn catalogue(folder: &Path, manifest: &Manifest) -> anyhow::Result<Catalogue> {
    let path = folder.join(&manifest.catalogue.name);
    manifest.catalogue.check(&path)?;
    let (mut builder, mut last, mut in_order) = (CatalogueBuilder::default(), None, true);
    crate::import::videos_of_parquet(&path, |video| {
        in_order &= last <= Some(video.id);
        last = Some(video.id);
        builder.video(&video);
    })?;
    let catalogue = builder.finish()?;
    ensure!(
        catalogue.len() as u64 == manifest.videos && in_order,
        "{}: {} videos in ascending order of id were expected; prepare the shards again",
        path.display(),
        manifest.videos
    );
    Ok(catalogue)
}
