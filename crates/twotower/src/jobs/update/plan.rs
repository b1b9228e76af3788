//! Which vectors have to be written or removed.

use super::{Changes, UpdateOptions};
use crate::jobs::Retry;
use crate::jobs::dormant::{is_dormant, latest};
use crate::time::now_us;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use twotower_core::interaction::Sequences;
use twotower_core::time::SECOND_US;
use twotower_store::{Snapshot, Store, VectorTable};
use uuid::Uuid;

/// Which of the wanted vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jobs) enum Scope {
    /// New ones, and those whose fingerprint changed.
    Changed,
    /// All of them.
    All,
}

/// Changes to the vectors of one kind.
#[derive(Debug, Default)]
pub(in crate::jobs) struct TablePlan {
    /// Positions of the rows to write (of videos in the catalogue, of users in the snapshot, of
    /// rows in a batch), with their fingerprints.
    pub(in crate::jobs) write: Vec<(usize, i64)>,
    pub(in crate::jobs) remove: Vec<Uuid>,
    /// Ids of the vectors that exist afterwards.
    pub(in crate::jobs) kept: Vec<Uuid>,
    pub(in crate::jobs) changes: Changes,
}

impl TablePlan {
    /// `wanted`: positions, ids and fingerprints; `stored`: ids and fingerprints.
    ///
    /// Vectors of `dormant` positions are neither added nor recomputed: an outdated one is removed.
    pub(in crate::jobs) fn new(
        dormant: impl Fn(usize) -> bool,
        wanted: impl Iterator<Item = (usize, Uuid, i64)>,
        stored: Vec<(Uuid, i64)>,
        scope: Scope,
    ) -> Self {
        let outdated = |old, fingerprint| old != fingerprint || scope == Scope::All;
        let mut stored: HashMap<Uuid, i64> = stored.into_iter().collect();
        let mut plan = Self::default();
        for (position, id, fingerprint) in wanted {
            let old = stored.remove(&id);
            if old.is_none_or(|old| outdated(old, fingerprint)) && dormant(position) {
                plan.changes.dormant += 1;
                plan.remove.extend(old.map(|_| id));
                continue;
            }
            plan.kept.push(id);
            match old {
                None => plan.changes.new += 1,
                Some(old) if outdated(old, fingerprint) => plan.changes.changed += 1,
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
        let scope = if options.full {
            Scope::All
        } else {
            Scope::Changed
        };
        let stored = async |table| {
            retry
                .call("read what is stored", || {
                    store.read_fingerprints(table, version)
                })
                .await
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
        // A user's vector is computed from the vectors of videos, so that a changed video also
        // changes the users who saw it.
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
        // Every user of a snapshot has at least one like or skip.
        let mut last = vec![0; dataset.users];
        for row in dataset.likes.iter().chain(&dataset.skips) {
            let last: &mut u32 = &mut last[row.user as usize];
            *last = row.at.max(*last);
        }
        let latest = latest(last.iter().copied().map(i64::from), now_us() / SECOND_US);
        let days = options.user_vector_days;
        let dormant = |user: usize| is_dormant(last[user].into(), latest, days);
        let videos = TablePlan::new(|_| false, wanted_videos, stored_videos, scope);
        let users = TablePlan::new(dormant, wanted_users, stored_users, scope);
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
        let plan = |scope| TablePlan::new(|position| position >= 3, wanted(), stored(), scope);
        let changes = |new, changed, removed, unchanged, dormant| Changes {
            new,
            changed,
            removed,
            unchanged,
            dormant,
        };
        let update = plan(Scope::Changed);
        assert_eq!(update.changes, changes(1, 1, 2, 2, 2));
        assert_eq!(update.write, [(1, 7), (2, 7)]);
        assert_eq!(update.remove, [id(4), id(9)]);
        assert_eq!(update.kept, [0, 1, 2, 3].map(id));
        let full = plan(Scope::All);
        assert_eq!(full.changes, changes(1, 2, 3, 0, 3));
        assert_eq!(full.kept, [0, 1, 2].map(id));
    }
}
