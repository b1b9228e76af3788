//! What has changed since the vectors were made.

use super::{Changes, UpdateOptions};
use crate::jobs::dormant::{is_dormant, latest};
use crate::jobs::{Retry, now_us};
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use twotower_core::interaction::Sequences;
use twotower_core::time::SECOND_US;
use twotower_store::{Snapshot, Store, VectorTable};
use uuid::Uuid;

/// What is to be written for one kind of vectors.
#[derive(Debug, Default)]
pub(in crate::jobs) struct TablePlan {
    /// Positions (of videos in the catalogue, of users in the snapshot, of rows in a batch) with the fingerprint of what is there.
    pub(in crate::jobs) write: Vec<(usize, i64)>,
    pub(in crate::jobs) remove: Vec<Uuid>,
    /// Ids of the vectors that are there afterwards.
    pub(in crate::jobs) kept: Vec<Uuid>,
    pub(in crate::jobs) changes: Changes,
}

impl TablePlan {
    /// Vectors of those who are `dormant` are not added, and not computed again: one that no longer holds is removed.
    pub(in crate::jobs) fn new(
        dormant: impl Fn(usize) -> bool,
        wanted: impl Iterator<Item = (usize, Uuid, i64)>,
        stored: Vec<(Uuid, i64)>,
        full: bool,
    ) -> Self {
        let mut stored: HashMap<Uuid, i64> = stored.into_iter().collect();
        let mut plan = Self::default();
        for (position, id, fingerprint) in wanted {
            let old = stored.remove(&id);
            if old.is_none_or(|old| old != fingerprint || full) && dormant(position) {
                plan.changes.dormant += 1;
                plan.remove.extend(old.map(|_| id));
                continue;
            }
            plan.kept.push(id);
            match old {
                None => plan.changes.new += 1,
                Some(old) if old != fingerprint || full => plan.changes.changed += 1,
                Some(_) => {
                    plan.changes.unchanged += 1;
                    continue;
                }
            }
            plan.write.push((position, fingerprint));
        }
        plan.remove.extend(stored.into_keys());
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
        options: &UpdateOptions,
    ) -> anyhow::Result<Self> {
        let full = options.full;
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
        let catalogue = &dataset.catalogue;
        let of_video: Vec<i64> = catalogue
            .videos()
            .map(|video| {
                let features = (
                    video.title,
                    video.description,
                    video.genre,
                    video.maker,
                    video.price,
                    video.duration_seconds,
                );
                let more = (video.published_at_us, video.tags, video.performers);
                fingerprint(serde_json::to_vec(&(features, more)).unwrap_or_default())
            })
            .collect();
        // A user's vector is made of the videos' vectors, so that a changed video changes its users too.
        let of_user = |user: usize| {
            let mut bytes = Vec::new();
            for (kind, items) in [(0u8, likes.of(user)), (1u8, skips.of(user))] {
                for &item in items {
                    bytes.push(kind);
                    bytes.extend(catalogue.id(item as usize).as_bytes());
                    bytes.extend(of_video[item as usize].to_le_bytes());
                }
            }
            fingerprint(bytes)
        };
        let wanted_videos = of_video
            .iter()
            .enumerate()
            .map(|(position, &fingerprint)| (position, catalogue.id(position), fingerprint));
        let wanted_users = snapshot
            .users
            .iter()
            .enumerate()
            .map(|(user, &id)| (user, id, of_user(user)));
        // A user of a snapshot has liked or skipped something.
        let mut last = vec![0; dataset.users];
        for row in dataset.likes.iter().chain(&dataset.skips) {
            let last: &mut u32 = &mut last[row.user as usize];
            *last = row.at.max(*last);
        }
        let latest = latest(last.iter().copied().map(i64::from), now_us() / SECOND_US);
        let days = options.user_vector_days;
        let dormant = |user: usize| is_dormant(last[user].into(), latest, days);
        let videos = TablePlan::new(|_| false, wanted_videos, stored_videos, full);
        let users = TablePlan::new(dormant, wanted_users, stored_users, full);
        Ok(Self {
            likes,
            skips,
            videos,
            users,
        })
    }
}

/// The first 64 bits of the SHA-256 of `bytes`.
pub(in crate::jobs) fn fingerprint(bytes: impl AsRef<[u8]>) -> i64 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(8)
        .fold(0i64, |hash, &byte| hash << 8 | i64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_dormant_users_are_neither_added_nor_renewed() {
        let id = |n: usize| Uuid::from_u128(n as u128);
        let wanted = || (0..6).map(|n| (n, id(n), 7));
        let stored = || vec![(id(0), 7), (id(1), 8), (id(3), 7), (id(4), 8), (id(9), 7)];
        let plan = |full| TablePlan::new(|position| position >= 3, wanted(), stored(), full);
        let changes = |new, changed, removed, unchanged, dormant| Changes {
            new,
            changed,
            removed,
            unchanged,
            dormant,
        };
        let update = plan(false);
        assert_eq!(update.changes, changes(1, 1, 2, 2, 2));
        assert_eq!(update.write, [(1, 7), (2, 7)]);
        assert_eq!(update.remove, [id(4), id(9)]);
        assert_eq!(update.kept, [0, 1, 2, 3].map(id));
        let full = plan(true);
        assert_eq!(full.changes, changes(1, 2, 3, 0, 3));
        assert_eq!(full.kept, [0, 1, 2].map(id));
    }
}
