//! Erasures and prunings that are killed before, or in the middle of, each call that changes
//! something.

use super::faults::{Action, Watched};
use super::kills::{calls, killed};
use super::scene::{Scene, on_postgres, on_sqlite};
use super::{instants, report};
use crate::serve::fixture::user;
use twotower_store::{StoreError, StoreKind, VectorTable};

fn watched(scene: &Scene) -> Watched {
    let folder = Watched::below(scene.folder.path());
    match scene.store.kind() {
        StoreKind::Postgres => folder.and(&Watched::sockets()),
        StoreKind::Sqlite => folder,
    }
}

/// Whether all data of the user are gone; asserts that either all or none are.
fn is_erased(scene: &Scene, n: u128, instant: &str) -> bool {
    let (id, active) = (user(n), scene.active().unwrap());
    scene.runtime.block_on(async {
        let history = scene.store.user_history(id, 100).await;
        let likes = scene.store.liked_videos(id).await.unwrap_or_default().len();
        let vectors = scene.store.read_fingerprints(VectorTable::Users, active);
        let vector = vectors.await.unwrap().iter().any(|&(other, _)| other == id);
        match history {
            Ok(history) => {
                assert!(
                    history.likes.len() >= 4 && likes >= 4 && vector,
                    "{instant}: half of a user is gone"
                );
                false
            }
            Err(StoreError::ErasedUser) => {
                assert!(
                    likes == 0 && !vector,
                    "{instant}: half of an erased user is there"
                );
                true
            }
            Err(error) => panic!("{instant}: {error}"),
        }
    })
}

fn kill_erasures(scene: &Scene) -> u64 {
    let watched = watched(scene);
    let erase = |n: u128| format!("erase --user {}", user(n));
    let total = calls(scene, &erase(0), &watched);
    assert!(is_erased(scene, 0, "nothing has happened"));
    let (mut kills, mut n) = (0, 0);
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, 4) {
            n += 1;
            let instant = format!("{action:?} at call {at} of {total} of `{}`", erase(n));
            kills += u64::from(killed(scene, &erase(n), &watched, action, at).is_some());
            is_erased(scene, n, &instant);
            scene.json(&format!("{} --verify", erase(n)));
            assert!(is_erased(scene, n, &instant));
        }
    }
    // An update does not restore erased users, and removes no others.
    let version = scene.next_model();
    scene.json("update --full");
    for other in 0..300 {
        assert_eq!(is_erased(scene, other, "at the end"), other <= n);
    }
    assert_eq!(scene.active(), Some(version));
    kills
}

#[test]
fn heavy_erasures() {
    for scene in [on_postgres(), on_sqlite()] {
        let kills = kill_erasures(&scene);
        report(&format!("erase on {:?}: {kills} kills", scene.store.kind()));
        assert!(kills > 0);
    }
}

fn kill_prunings(scene: &Scene) -> u64 {
    scene.configure("[update]\ngate = false\nlease_seconds = 1\nbatch_size = 5\n[prune]\nkeep_versions = 0\nuser_vector_days = 0");
    let watched = watched(scene);
    let next = || {
        let version = scene.next_model();
        scene.again("update --batch-size 1000");
        version
    };
    next();
    let total = calls(scene, "prune", &watched);
    let mut kills = 0;
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, 4) {
            let instant = format!("{action:?} at call {at} of {total} of `prune`");
            let version = next();
            let watch = (scene.store.kind() == StoreKind::Postgres).then(|| scene.watch());
            kills += u64::from(killed(scene, "prune", &watched, action, at).is_some());
            scene.again("prune");
            if let Some(reads) = watch.map(super::watch::Watch::end) {
                assert_eq!(reads.mixed, 0, "{instant}");
            }
            // The active version and the target of a rollback stay; the one before is removed.
            scene.check(version, version, &instant);
            scene.check_vectors(version - 1, &instant);
            let left: Vec<i64> = scene
                .vectors()
                .iter()
                .map(|&(version, ..)| version)
                .collect();
            assert_eq!(left, [version - 1, version], "{instant}");
            let mut folders: Vec<i64> =
                twotower_store::model_files::versions(&scene.models()).unwrap();
            folders.sort_unstable();
            assert_eq!(folders, [version - 1, version], "{instant}");
        }
    }
    kills
}

#[test]
fn heavy_prunings() {
    for scene in [on_postgres(), on_sqlite()] {
        let kills = kill_prunings(&scene);
        report(&format!("prune on {:?}: {kills} kills", scene.store.kind()));
        assert!(kills > 0);
    }
}
