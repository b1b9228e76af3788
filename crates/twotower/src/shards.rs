//! Training shards: catalogue, likes and skips as Parquet files ordered by user, as `twotower
//! prepare` writes them (docs/scaling.md describes the format).
//!
//! They are read once, into memory or into a file beside the models, from which training then reads
//! user by user. The numbering of users and the splits into training, validation and test equal
//! those of a snapshot of a database with the same rows, so that the resulting model is the same.

mod manifest;

mod rows;

mod cut;

mod reading;

mod snapshot;

use crate::histories::Histories;
use crate::shards::cut::Cuts;
use crate::shards::manifest::Manifest;
pub(crate) use crate::shards::snapshot::snapshot;
use anyhow::ensure;
use std::path::Path;
use twotower_core::feature::{Catalogue, CatalogueBuilder};
use twotower_core::split::SplitKind;

/// Where likes and skips are kept during training.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// In memory.
    InMemory,
    /// In an unnamed file in this folder, which is deleted with the process.
    InFolder(&'a Path),
}

/// Times that rows are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The base model has seen likes up to this second.
    pub(crate) base_until: Option<u32>,
    /// Now, microseconds since 1970.
    pub(crate) now_us: i64,
}

/// Shards that have been read.
#[derive(Debug)]
pub(crate) struct Shards {
    /// Numbers of likes, skips, users and videos, and times.
    pub(crate) manifest: Manifest,
    /// SHA-256 of the manifest, which holds those of all files; hex.
    pub(crate) sha256: String,
    /// All videos.
    pub(crate) catalogue: Catalogue,
    pub(crate) histories: Histories,
    /// Time of the earliest like, seconds since 1970.
    pub(crate) earliest_like: Option<u32>,
    /// Time of the latest like or skip that is not in the future (or of all, if every one is),
    /// microseconds since 1970.
    pub(crate) cut_off_us: Option<i64>,
}

impl Shards {
    /// Reads a folder of shards and validates everything in it.
    ///
    /// # Errors
    /// If a file is missing, damaged or invalid, or the disk fails.
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

/// The catalogue of a folder, validated.
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
