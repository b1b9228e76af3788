//! What is learned from, and whether there is enough of it.

use super::JobError;
use anyhow::Context;
use twotower_core::interaction::Dataset;
use twotower_store::{Snapshot, SnapshotOptions, Source, Store};

/// Below it nothing is trained.
pub const MINIMUM_LIKES: u64 = 100;

/// Likes, users and videos below which quality suffers, after the deployment guide.
pub const RECOMMENDED: [(&str, u64); 3] =
    [("likes", 100_000), ("users", 1_000), ("videos", 10_000)];

/// What falls short of [`RECOMMENDED`], in words; empty if nothing does.
///
/// # Errors
/// [`JobError::TooFewLikes`] below [`MINIMUM_LIKES`].
pub fn check_sufficiency(dataset: &Dataset) -> Result<Vec<String>, JobError> {
    let counts = [
        dataset.likes.len() as u64,
        dataset.users as u64,
        dataset.catalogue.len() as u64,
    ];
    if counts[0] < MINIMUM_LIKES {
        return Err(JobError::TooFewLikes {
            likes: counts[0],
            minimum: MINIMUM_LIKES,
        });
    }
    let short = RECOMMENDED
        .iter()
        .zip(counts)
        .filter(|((_, recommended), count)| count < recommended);
    Ok(short
        .map(|((what, recommended), count)| {
            format!("{count} {what}, {recommended} are recommended")
        })
        .collect())
}

/// Reads what is learned from, says how much it is, and warns where it is little.
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
    describe(&snapshot);
    for shortage in check_sufficiency(&snapshot.dataset)? {
        tracing::warn!("few data: {shortage}");
    }
    Ok(snapshot)
}

fn describe(snapshot: &Snapshot) {
    let dataset = &snapshot.dataset;
    tracing::info!(
        "{} likes, {} skips, {} users, {} videos",
        dataset.likes.len(),
        dataset.skips.len(),
        dataset.users,
        dataset.catalogue.len()
    );
    if snapshot.orphans > 0 {
        tracing::warn!(
            "{} likes and skips name a video that is not in the catalogue and were left out",
            snapshot.orphans
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_core::interaction::Interaction;

    #[test]
    fn too_little_is_refused_and_little_is_said() {
        let likes = |n: u32| Dataset {
            users: 2000,
            likes: (0..n)
                .map(|item| Interaction {
                    user: 0,
                    item,
                    at: 1,
                })
                .collect(),
            ..Dataset::default()
        };
        assert!(matches!(
            check_sufficiency(&likes(99)),
            Err(JobError::TooFewLikes { likes: 99, .. })
        ));
        let short = check_sufficiency(&likes(100)).unwrap();
        assert_eq!(
            short,
            [
                "100 likes, 100000 are recommended",
                "0 videos, 10000 are recommended"
            ]
        );
    }
}
