//! Reads training data, and checks that there is enough.

use super::JobError;
use super::train::ShardOptions;
use crate::shards::{Clock, Keep, Shards};
use crate::time::now_us;
use anyhow::Context;
use std::path::Path;
use twotower_core::interaction::Dataset;
use twotower_core::split::SplitKind;
use twotower_store::{Snapshot, SnapshotOptions, Source, Store};

/// With fewer likes than this, nothing is trained.
pub(crate) const MINIMUM_LIKES: u64 = 100;

/// Numbers of likes, users and videos below which quality suffers, as in the deployment guide.
pub(crate) const RECOMMENDED: [(&str, u64); 3] =
    [("likes", 100_000), ("users", 1_000), ("videos", 10_000)];

/// Amount of training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Number of likes.
    pub(crate) likes: u64,
    /// Number of users with a like or a skip.
    pub(crate) users: u64,
    /// Number of videos in the catalogue.
    pub(crate) videos: u64,
}

impl From<&Dataset> for Amount {
    fn from(dataset: &Dataset) -> Self {
        Self {
            likes: dataset.likes.len() as u64,
            users: dataset.users as u64,
            videos: dataset.catalogue.len() as u64,
        }
    }
}

/// What falls short of [`RECOMMENDED`], in words; empty if nothing does.
///
/// # Errors
/// [`JobError::TooFewLikes`] below [`MINIMUM_LIKES`].
pub(crate) fn check_sufficiency(amount: Amount) -> Result<Vec<String>, JobError> {
    let Amount {
        likes,
        users,
        videos,
    } = amount;
    if likes < MINIMUM_LIKES {
        return Err(JobError::TooFewLikes {
            likes,
            minimum: MINIMUM_LIKES,
        });
    }
    let short = RECOMMENDED
        .iter()
        .zip([likes, users, videos])
        .filter(|((_, recommended), count)| count < recommended);
    Ok(short
        .map(|((what, recommended), count)| {
            format!("{count} {what}, {recommended} are recommended")
        })
        .collect())
}

/// Reads a snapshot, logs its size, and warns if it is small.
///
/// # Errors
/// If the store fails, or [`JobError::TooFewLikes`].
pub(super) async fn read_data(
    store: &Store,
    source: &Source,
    max_age_days: Option<u32>,
) -> anyhow::Result<Snapshot> {
    let snapshot = store
        .read_snapshot(
            source,
            SnapshotOptions {
                max_age_days,
                pseudonyms: true,
            },
        )
        .await
        .context("read likes and videos")?;
    let skips = snapshot.dataset.skips.len() as u64;
    describe((&snapshot.dataset).into(), skips, snapshot.orphans)?;
    Ok(snapshot)
}

/// Opens shards, logs their size, and warns if it is small. With a memory limit, likes and skips
/// are read from a file in `scratch` while they are learned.
pub(super) fn read_shards(
    options: &ShardOptions,
    split: SplitKind,
    base_until: Option<u32>,
    scratch: &Path,
) -> anyhow::Result<Shards> {
    let keep = match options.memory_limit {
        Some(_) => Keep::InFolder(scratch),
        None => Keep::InMemory,
    };
    let clock = Clock {
        base_until,
        now_us: now_us(),
    };
    let shards = Shards::open(&options.folder, split, clock, keep)?;
    let manifest = &shards.manifest;
    let amount = Amount {
        likes: manifest.likes,
        users: manifest.users,
        videos: manifest.videos,
    };
    describe(amount, manifest.skips, manifest.orphans)?;
    Ok(shards)
}

fn describe(amount: Amount, skips: u64, orphans: u64) -> Result<(), JobError> {
    tracing::info!(
        "{} likes, {skips} skips, {} users, {} videos",
        amount.likes,
        amount.users,
        amount.videos
    );
    if orphans > 0 {
        tracing::warn!(
            "{orphans} likes and skips name a video that is not in the catalogue and were left out"
        );
    }
    for shortage in check_sufficiency(amount)? {
        tracing::warn!("few data: {shortage}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_is_refused_and_little_is_said() {
        let amount = |likes| Amount {
            likes,
            users: 2000,
            videos: 0,
        };
        assert!(matches!(
            check_sufficiency(amount(99)),
            Err(JobError::TooFewLikes { likes: 99, .. })
        ));
        let short = check_sufficiency(amount(100)).unwrap();
        assert_eq!(
            short,
            [
                "100 likes, 100000 are recommended",
                "0 videos, 10000 are recommended"
            ]
        );
    }
}
