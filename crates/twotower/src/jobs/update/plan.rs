//! What has changed since the vectors were made.

use super::Changes;
use crate::jobs::Retry;
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use twotower_core::interaction::Sequences;
use twotower_store::{Snapshot, Store, VectorTable};
use uuid::Uuid;

/// What is to be written for one kind of vectors.
#[derive(Debug, Default)]
pub(super) struct TablePlan {
    /// Positions (of videos in the catalogue, of users in the snapshot) with the fingerprint of their inputs.
    pub(super) write: Vec<(usize, i64)>,
    pub(super) remove: Vec<Uuid>,
    pub(super) changes: Changes,
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

pub(super) struct Plan {
    pub(super) likes: Sequences,
    pub(super) skips: Sequences,
    pub(super) videos: TablePlan,
    pub(super) users: TablePlan,
}

impl Plan {
    pub(super) async fn new(
        store: &Store,
        retry: &Retry,
        snapshot: &Snapshot,
        version: i64,
        full: bool,
    ) -> anyhow::Result<Self> {
        let stored = async |table| {
            retry
                .run("read what is stored", || {
                    store.read_fingerprints(table, version)
                })
                .await
                .context("read what is stored")
        };
        let stored_videos = stored(VectorTable::Videos).await?;
        let stored_users = stored(VectorTable::Users).await?;
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
