//! A process killed before, or in the middle of, each call that changes something.

use super::faults::{Action, Watched, inject};
use super::scene::{Scene, on_postgres, on_sqlite};
use super::{Tried, instants, report};
use crate::life_cycle::load;
use crate::life_cycle::place::{Place, whole};
use crate::support::Workplace;
use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use twotower_store::model_files;

const SIGKILL: i32 = 9;

/// Runs `line` with a kill at the call `at`; `None` if it finished before that.
pub(super) fn killed(
    place: &Workplace,
    line: &str,
    watched: &Watched,
    action: Action,
    at: u64,
) -> Option<String> {
    let mut command = place.command(line);
    let log = inject(&mut command, watched, action, at);
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let hit = log.seen().hit;
    match hit {
        Some(_) => assert_eq!(status.signal(), Some(SIGKILL), "{line}: {hit:?}"),
        None => assert!(status.success(), "{line}: {status}"),
    }
    hit
}

/// Number of calls of an undisturbed run.
pub(super) fn calls(place: &Workplace, line: &str, watched: &Watched) -> u64 {
    let mut command = place.command(line);
    let log = inject(&mut command, watched, Action::Count, 0);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let total = log.seen().total;
    assert!(total > 0, "none of its calls was seen: {line}");
    total
}

const UPDATE: &str = "update --batch-size 20";

/// Kills an update that loads and activates a new version, at each of its calls.
fn kill_updates(scene: &Scene, watched: &Watched, few: u64) -> Tried {
    let version = scene.next_model();
    let total = calls(scene, UPDATE, watched);
    scene.converged(version, "nothing has happened");
    let mut kills = Tried::default();
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, few) {
            let instant = format!("{action:?} at call {at} of {total} of `{UPDATE}`");
            let (before, version) = (scene.active().unwrap(), scene.next_model());
            let hit = killed(scene, UPDATE, watched, action, at);
            kills.count(hit.is_some());
            scene.check(before, version, &instant);
            scene.again(UPDATE);
            scene.converged(version, &instant);
        }
    }
    kills
}

#[test]
fn heavy_updates_on_postgres() {
    let scene = on_postgres();
    let watch = scene.watch();
    let kills = kill_updates(&scene, &Watched::sockets(), 4);
    let reads = watch.end();
    report(&format!(
        "update on PostgreSQL: {kills} kills, {} reads meanwhile, {} of them mixed",
        reads.all, reads.mixed
    ));
    kills.check();
    assert!(reads.all > kills.met && reads.mixed == 0, "{reads:?}");
}

#[test]
fn heavy_updates_on_sqlite() {
    let scene = on_sqlite();
    let kills = kill_updates(&scene, &Watched::below(scene.folder.path()), 4);
    report(&format!("update on SQLite: {kills} kills"));
    kills.check();
}

const TRAIN: &str = "train --epochs 1 --batch-size 64 --embedding-dim 8 --update-db";

/// Kills trainings that activate their result, at each of their calls. Their vectors depend only on
/// the seed, which changes each time.
fn kill_trainings(scene: &Scene, watched: &Watched, few: u64) -> Tried {
    let models = scene.models();
    let configure = |seed: u64| {
        scene.configure(&format!(
            "[update]\ngate = false\nlease_seconds = 1\n[hyperparameters]\nseed = {seed}"
        ));
    };
    let mut total = 0;
    let mut hashes = HashMap::new();
    let of_seed = [1, 2].map(|seed| {
        configure(seed);
        total = calls(scene, TRAIN, watched);
        let version = scene.active().unwrap();
        hashes.insert(version, scene.hash(version));
        hashes[&version]
    });
    assert_ne!(of_seed[0], of_seed[1]);
    let mut kills = Tried::default();
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, few) {
            let instant = format!("{action:?} at call {at} of {total} of `{TRAIN}`");
            let expected = of_seed[(at % 2) as usize];
            configure(1 + at % 2);
            let before = scene.active().unwrap();
            let hit = killed(scene, TRAIN, watched, action, at);
            kills.count(hit.is_some());
            let visible = scene.active().unwrap();
            let known = if visible == before {
                hashes[&before]
            } else {
                expected
            };
            assert_eq!(
                scene.hash(visible),
                known,
                "{instant}: version {visible} is not whole"
            );
            scene.check_likes(&instant);
            check_folders(&models, &instant);

            scene.again(TRAIN);
            let version = scene.active().unwrap();
            assert!(version > before, "{instant}");
            assert_eq!(scene.hash(version), expected, "{instant}");
            scene.check_likes(&instant);
            check_folders(&models, &instant);
            let left = std::fs::read_dir(&models).unwrap().filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().contains(".tmp")
            });
            assert_eq!(
                left.count(),
                0,
                "{instant}: what the killed run left is not cleared away"
            );
            hashes.insert(version, expected);
            scene.forget(before);
        }
    }
    kills
}

/// Every folder that looks like a model is a complete one.
fn check_folders(models: &Path, instant: &str) {
    for version in model_files::versions(models).unwrap() {
        let folder = models.join(version.to_string());
        let loaded = model_files::load(&folder);
        assert!(
            loaded.is_ok(),
            "{instant}: {}: {:?}",
            folder.display(),
            loaded.err()
        );
    }
}

#[test]
fn heavy_trainings_on_postgres() {
    let scene = on_postgres();
    let models = Watched::below(&scene.models());
    let kills = kill_trainings(&scene, &Watched::sockets().and(&models), 4);
    report(&format!("train --update-db on PostgreSQL: {kills} kills"));
    kills.check();
}

#[test]
fn heavy_trainings_on_sqlite() {
    let scene = on_sqlite();
    let kills = kill_trainings(&scene, &Watched::below(scene.folder.path()), 4);
    report(&format!("train --update-db on SQLite: {kills} kills"));
    kills.check();
}

/// Kills loads of vectors from files that activate them, at each of their calls.
fn kill_loads(scene: &Scene, watched: &Watched, few: u64) -> Tried {
    // Other vectors for each version.
    let next = || {
        let version = Place::next_model(scene);
        load::folder(scene, version, &format!("vectors{version}"));
        let line = format!("load --model models/{version} --from vectors{version}");
        (version, line)
    };
    let (mut version, mut line) = next();
    let total = calls(scene, &line, watched);
    let mut kills = Tried::default();
    for action in [Action::Kill, Action::Torn] {
        for at in instants(total, few) {
            let before = version;
            (version, line) = next();
            let instant = format!("{action:?} at call {at} of {total} of `{line}`");
            let earlier = scene.hash(before);
            let hit = killed(scene, &line, watched, action, at);
            kills.count(hit.is_some());
            let visible = scene.active().unwrap();
            let seen = scene.hash(visible);
            scene.check_likes(&instant);

            scene.again(&line);
            assert_eq!(scene.active(), Some(version), "{instant}");
            assert!(scene.vectors().contains(&whole(version)), "{instant}");
            let hashes = [earlier, scene.hash(version)];
            let known = hashes[usize::from(visible == version)];
            assert_eq!(seen, known, "{instant}: version {visible} was not whole");
            scene.check_likes(&instant);
            scene.forget(before);
        }
    }
    kills
}

#[test]
fn heavy_loads_on_postgres() {
    let scene = on_postgres();
    let kills = kill_loads(&scene, &Watched::sockets(), 3);
    report(&format!("load on PostgreSQL: {kills} kills"));
    kills.check();
}

#[test]
fn heavy_loads_on_sqlite() {
    let scene = on_sqlite();
    let kills = kill_loads(&scene, &Watched::below(scene.folder.path()), 3);
    report(&format!("load on SQLite: {kills} kills"));
    kills.check();
}
