//! Erasures and prunings that are killed before, or in the middle of, each call that changes
//! something.

use super::faults::{Action, Watched};
use super::kills::{calls, killed};
use super::scene::{Scene, on_postgres, on_sqlite};
use super::{Tried, instants, report};
use crate::life_cycle::place::USERS;
use crate::serve::fixture::{VIDEOS, user, video};
use twotower_store::{InteractionKind, InteractionRow, StoreError, StoreKind, VectorTable};

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
        let likes = scene.store.liked_videos(id).await.unwrap().len();
        let vectors = scene.store.read_fingerprints(VectorTable::Users, active);
        let vector = vectors.await.unwrap().iter().any(|&(other, _)| other == id);
        match history {
            Ok(history) => {
                assert!(
                    history.likes.len() >= 4 && history.skips.len() == 1 && likes >= 4 && vector,
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

fn kill_erasures(scene: &Scene) -> Tried {
    let watched = watched(scene);
    let erase = |n: u128| format!("erase --user {}", user(n));
    let each = (0..USERS).map(|n| InteractionRow {
        user: user(n),
        video: video(VIDEOS - n % VIDEOS),
        at_us: 1_700_000_000_000_000,
    });
    let each: Vec<_> = each.collect();
    let written = scene.store.write_interactions(InteractionKind::Skip, &each);
    scene.runtime.block_on(written).unwrap();
    let skips = || {
        let counts = scene.runtime.block_on(scene.store.counts());
        u128::from(counts.unwrap().skips)
    };
    let total = calls(scene, &erase(0), &watched);
    assert!(is_erased(scene, 0, "nothing has happened"));
    let (mut kills, mut n) = (Tried::default(), 0);
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, 4) {
            n += 1;
            let instant = format!("{action:?} at call {at} of {total} of `{}`", erase(n));
            kills.count(killed(scene, &erase(n), &watched, action, at).is_some());
            let gone = u128::from(is_erased(scene, n, &instant));
            assert_eq!(skips(), USERS - n - gone, "{instant}");
            scene.json(&format!("{} --verify", erase(n)));
            assert!(is_erased(scene, n, &instant));
        }
    }
    // An update does not restore erased users, and removes no others.
    let version = scene.next_model();
    scene.json("update --full");
    assert_eq!(skips(), USERS - n - 1);
    for other in 0..USERS {
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
        kills.check();
    }
}

fn kill_prunings(scene: &Scene) -> Tried {
    scene.configure("[update]\ngate = false\nlease_seconds = 1\nbatch_size = 5\n[prune]\nkeep_versions = 0\nuser_vector_days = 0");
    let watched = watched(scene);
    let next = || {
        let version = scene.next_model();
        scene.again("update --batch-size 1000");
        version
    };
    next();
    let total = calls(scene, "prune", &watched);
    let mut kills = Tried::default();
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, 4) {
            let instant = format!("{action:?} at call {at} of {total} of `prune`");
            let version = next();
            let watch = (scene.store.kind() == StoreKind::Postgres).then(|| scene.watch());
            kills.count(killed(scene, "prune", &watched, action, at).is_some());
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
        kills.check();
    }
}
