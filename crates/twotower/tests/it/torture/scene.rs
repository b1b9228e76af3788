//! A database with likes, whose vectors under either of two models are known in advance.

use super::watch::Watch;
use crate::life_cycle::place::{Place, whole};
use crate::serve::fixture::model;
use crate::support::{Workplace, sql};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_store::{StoreKind, VectorTable};

/// Seeds of the two models; versions alternate between them.
const SEEDS: [u64; 2] = [11, 12];

/// Longer than any lease of a scene and any command on it.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) struct Scene {
    place: Place,
    /// Hash of a version's vectors for each of the two models.
    expected: [u64; 2],
    likes: String,
}

impl Deref for Scene {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Scene {
    /// With an active version.
    pub(super) fn new(place: Place) -> Self {
        place.lease_of_one_second();
        place.like_more();
        let mut scene = Self {
            place,
            expected: [0; 2],
            likes: String::new(),
        };
        scene.likes = scene.likes_now();
        for _ in SEEDS {
            let version = scene.next_model();
            scene.json("update");
            scene.expected[which(version)] = scene.hash(version);
        }
        assert_ne!(scene.expected[0], scene.expected[1]);
        scene
    }

    /// With only likes and videos.
    pub(super) fn bare(place: Place) -> Self {
        Self {
            place,
            expected: [0; 2],
            likes: String::new(),
        }
    }

    /// Makes the folder of a next version.
    pub(super) fn next_model(&self) -> i64 {
        let version = self.next_version();
        self.save(version, &model(SEEDS[which(version)]));
        version
    }

    /// Observes what readers see from now on.
    pub(super) fn watch(&self) -> Watch {
        Watch::begin(&self.url)
    }

    /// Checks that one of the two generations is visible and complete, and that likes are
    /// unchanged.
    pub(super) fn check(&self, before: i64, new: i64, instant: &str) {
        let visible = self.active().unwrap();
        assert!(
            [before, new].contains(&visible),
            "{instant}: version {visible} is active, neither {before} nor {new}"
        );
        self.check_vectors(visible, instant);
        self.check_likes(instant);
    }

    /// Checks that all vectors of a version exist and are those of its model.
    pub(super) fn check_vectors(&self, version: i64, instant: &str) {
        assert_eq!(
            self.hash(version),
            self.expected[which(version)],
            "{instant}: vectors of version {version} are not those of its model"
        );
    }

    /// Checks that likes are unchanged.
    pub(super) fn check_likes(&self, instant: &str) {
        assert_eq!(
            self.likes_now(),
            self.likes,
            "{instant}: likes have changed"
        );
    }

    /// Runs `line` until nobody else holds the lease: a killed process holds it until it expires.
    pub(super) fn again(&self, line: &str) {
        let begun = Instant::now();
        let held = || {
            let said = self.json(line);
            [&said, &said["update"]]
                .iter()
                .any(|one| one["held_by"].is_object())
        };
        while held() {
            assert!(begun.elapsed() < PATIENCE, "the lease does not expire");
            sleep(Duration::from_millis(100));
        }
    }

    /// Runs `line`, which fails while another process holds the lease, until it succeeds.
    pub(super) fn patiently(&self, line: &str) {
        let begun = Instant::now();
        loop {
            let output = self.run(line);
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{line}: {said}");
            assert!(begun.elapsed() < PATIENCE, "{line}: {said}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Checks that one run has completed everything.
    pub(super) fn converged(&self, version: i64, instant: &str) {
        self.check(version, version, instant);
        assert!(
            self.vectors().contains(&whole(version)),
            "{instant}: {:?}",
            self.vectors()
        );
        self.forget(version - 2);
    }

    /// Removes a version, so that tables and folders do not grow with the number of instants.
    pub(super) fn forget(&self, version: i64) {
        self.runtime.block_on(async {
            for table in [VectorTable::Videos, VectorTable::Users] {
                let rows = self.store.read_fingerprints(table, version).await.unwrap();
                let ids: Vec<_> = rows.into_iter().map(|(id, _)| id).collect();
                let deleted = self.store.delete_embeddings(table, version, &ids);
                deleted.await.unwrap();
            }
        });
        let folder = self.models().join(version.to_string());
        let _ = std::fs::remove_dir_all(folder);
    }

    /// Hash of all vectors of a version, in order of their ids.
    pub(super) fn hash(&self, version: i64) -> u64 {
        let mut hasher = DefaultHasher::new();
        for table in [VectorTable::Videos, VectorTable::Users] {
            let read = self.store.read_embeddings(table, version, 8);
            let (ids, vectors) = self.runtime.block_on(read).unwrap();
            for (row, id) in ids.iter().enumerate() {
                id.hash(&mut hasher);
                for number in vectors.row(row) {
                    number.to_bits().hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// Reconnects after a restart of the server.
    pub(super) fn reconnect(&self) {
        while self.runtime.block_on(self.store.ping()).is_err() {
            sleep(Duration::from_millis(20));
        }
    }

    fn likes_now(&self) -> String {
        if self.store.kind() == StoreKind::Postgres {
            let likes = "SELECT md5(string_agg(likes::text || xmin, ',' ORDER BY user_id, video_id)) FROM likes";
            return sql(&self.url, likes);
        }
        let counts = self.runtime.block_on(self.store.counts()).unwrap();
        let likes = self.runtime.block_on(self.store.like_counts()).unwrap();
        format!("{counts:?} {likes:?}")
    }
}

/// Which of the two models a version uses.
fn which(version: i64) -> usize {
    (version % 2) as usize
}

/// On PostgreSQL, in a database of its own.
pub(super) fn on_postgres() -> Scene {
    Scene::new(Place::on_postgres())
}

pub(super) fn on_sqlite() -> Scene {
    Scene::new(Place::on_sqlite())
}

/// On the server at `url`, which is not that of the other tests.
pub(super) fn on_server(url: String) -> Scene {
    Scene::new(Place::new(Workplace::on_postgres(url)))
}
