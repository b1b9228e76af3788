//! A database with videos and likes, and folders of models with random weights.

use crate::serve::fixture::{VIDEOS, catalogue, model, save_model, user, video};
use crate::support::{Workplace, migrated_postgres};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;
use twotower_core::model::Model;
use twotower_core::time::HOUR_US;
use twotower_store::{
    ConnectOptions, InteractionKind, InteractionRow, Lease, LeaseHolder, LeaseOutcome, Store,
    VectorTable,
};

/// Enough that an update with batches of one row takes a while.
pub(crate) const USERS: u128 = 300;

pub(crate) struct Place {
    base: Workplace,
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
}

impl Deref for Place {
    type Target = Workplace;

    fn deref(&self) -> &Workplace {
        &self.base
    }
}

impl Place {
    pub(crate) fn on_sqlite() -> Self {
        Self::new(Workplace::on_sqlite())
    }

    pub(crate) fn on_postgres() -> Self {
        Self::new(Workplace::on_postgres(migrated_postgres()))
    }

    pub(crate) fn on_both() -> [Self; 2] {
        [Self::on_sqlite(), Self::on_postgres()]
    }

    pub(crate) fn new(base: Workplace) -> Self {
        // Random weights would not pass the gate.
        base.configure("[update]\ngate = false");
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(async {
            let store = Store::connect(&base.url, ConnectOptions::default())
                .await
                .unwrap();
            store.migrate().await.unwrap();
            store.write_videos(&catalogue()).await.unwrap();
            let likes: Vec<_> = (0..USERS)
                .map(|n| InteractionRow {
                    user: user(n),
                    video: video(1 + n % VIDEOS),
                    at_us: 1_700_000_000_000_000 + n as i64,
                })
                .collect();
            let written = store.write_interactions(InteractionKind::Like, &likes);
            written.await.unwrap();
            store
        });
        Self {
            base,
            store,
            runtime,
        }
    }

    /// Four more likes of each user, so that there is something to learn.
    pub(crate) fn like_more(&self) {
        let likes: Vec<_> = (0..USERS * 4)
            .map(|n| InteractionRow {
                user: user(n % USERS),
                video: video(1 + (n % USERS + n / USERS * 7 + 3) % VIDEOS),
                at_us: 1_700_000_000_000_000 + n as i64 * HOUR_US,
            })
            .collect();
        let written = self.store.write_interactions(InteractionKind::Like, &likes);
        self.runtime.block_on(written).unwrap();
    }

    /// For tests of an expired lease.
    pub(crate) fn lease_of_one_second(&self) {
        self.configure("[update]\ngate = false\nlease_seconds = 1");
    }

    /// Makes the folder of a next version.
    pub(crate) fn next_model(&self) -> i64 {
        let version = self.next_version();
        self.save(version, &model(version as u64));
        version
    }

    pub(crate) fn next_version(&self) -> i64 {
        let version = self.runtime.block_on(self.store.next_model_version());
        version.unwrap()
    }

    /// Makes the folder of a version.
    pub(crate) fn save(&self, version: i64, model: &Model) {
        save_model(&self.models(), model, version);
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Takes the lease as another process.
    pub(crate) fn take_lease(&self, lifetime: Duration) -> Lease {
        let other = LeaseHolder {
            host: "elsewhere".into(),
            pid: 4711,
            since_us: 1_767_225_600_000_000,
        };
        let taken = self.store.take_lease(&other, lifetime);
        match self.runtime.block_on(taken).unwrap() {
            LeaseOutcome::Taken(lease) => lease,
            LeaseOutcome::Held(holder) => panic!("{holder:?} has it"),
        }
    }

    /// (version, vectors of videos, vectors of users)
    pub(crate) fn vectors(&self) -> Vec<(i64, u64, u64)> {
        let count = |table| {
            self.runtime
                .block_on(self.store.count_vectors(table))
                .unwrap()
        };
        let (videos, users) = (count(VectorTable::Videos), count(VectorTable::Users));
        let of = |counts: &[(i64, u64)], version| {
            let found = counts.iter().find(|(other, _)| *other == version);
            found.map_or(0, |(_, rows)| *rows)
        };
        videos
            .iter()
            .map(|&(version, rows)| (version, rows, of(&users, version)))
            .collect()
    }

    /// (version, version before) of every activation.
    pub(crate) fn history(&self) -> Vec<(i64, Option<i64>)> {
        let activations = self.runtime.block_on(self.store.activations()).unwrap();
        activations
            .iter()
            .map(|one| (one.version, one.previous_version))
            .collect()
    }

    pub(crate) fn active(&self) -> Option<i64> {
        let active = self.runtime.block_on(self.store.active_model()).unwrap();
        active.map(|record| record.version)
    }
}

/// The expected numbers of vectors of a version.
pub(crate) fn whole(version: i64) -> (i64, u64, u64) {
    (version, VIDEOS as u64, USERS as u64)
}
