//! A disk that is full or broken at each call that writes, syncs, renames, creates or removes a
//! file.

use super::faults::{Action, DISK_FULL, IO_ERROR, Seen, Watched, inject};
use super::kills::{calls, killed};
use super::scene::{Scene, on_sqlite};
use super::{Tried, instants, report};
use crate::support::Workplace;
use std::process::Output;
use twotower_store::model_files;

pub(super) fn run(
    place: &Workplace,
    line: &str,
    watched: &Watched,
    action: Action,
    at: u64,
) -> (Output, Seen) {
    let mut command = place.command(line);
    let log = inject(&mut command, watched, action, at);
    let output = command.output().unwrap();
    (output, log.seen())
}

/// Messages of the system about a disk, and those of SQLite: it may take a file that cannot be
/// opened for a read-only one.
const REASONS: [&str; 6] = [
    "No space left on device",
    "Input/output error",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
    "readonly database",
];

/// Runs `line` with `action` at the call `at`; returns whether it succeeded nevertheless: that call
/// may have been retried, or have been part of a clean-up. Otherwise it was killed, or it failed
/// with an error that names the reason and one of `places`.
pub(super) fn goes_well(
    place: &Workplace,
    line: &str,
    watched: &Watched,
    (at, action): (u64, Action),
    (places, tried): (&[&str], &mut Tried),
) -> bool {
    if let Action::Kill | Action::Torn = action {
        let hit = killed(place, line, watched, action, at);
        tried.count(hit.is_some());
        return hit.is_none();
    }
    let (output, seen) = run(place, line, watched, action, at);
    tried.count(seen.hit.is_some());
    let said = String::from_utf8_lossy(&output.stderr);
    let instant = format!("{action:?} at {:?} of `{line}`: {said}", seen.hit);
    if output.status.success() {
        return true;
    }
    // Not a signal, and not a panic.
    let code = output.status.code();
    assert!(code.is_some_and(|code| code != 101), "{instant}");
    assert!(seen.hit.is_some(), "{instant}");
    let error = said.rfind("ERROR").map_or("", |at| &said[at..]);
    let names = |words: &[&str]| words.iter().any(|word| error.contains(word));
    assert!(names(&REASONS) && names(places), "{instant}");
    false
}

const ACTIONS: [Action; 4] = [
    Action::Error(DISK_FULL),
    Action::Errors(DISK_FULL),
    Action::Error(IO_ERROR),
    Action::Errors(IO_ERROR),
];

/// The run fails with the reason; earlier results stay unchanged; the next run succeeds.
#[test]
fn heavy_a_disk_that_fails_a_training() {
    let scene = on_sqlite();
    let models = scene.models();
    let watched = Watched::below(&models);
    let line = "train --epochs 1 --batch-size 64 --embedding-dim 8";
    let total = calls(&scene, line, &watched);
    let mut failures = 0;
    for at in instants(total, 5) {
        for action in ACTIONS {
            let before = folders(&scene);
            let (output, seen) = run(&scene, line, &watched, action, at);
            let log = String::from_utf8_lossy(&output.stderr);
            let hit = seen
                .hit
                .unwrap_or_else(|| panic!("{action:?} at call {at} was not met"));
            failures += 1;
            assert!(!output.status.success(), "{action:?} at {hit}: {log}");
            assert!(output.status.code().is_some(), "{action:?} at {hit}: {log}");
            let reason = log.contains("No space left") || log.contains("Input/output error");
            assert!(
                reason && log.contains("models"),
                "{action:?} at {hit}: {log}"
            );
            let after = folders(&scene);
            for (version, manifest) in &before {
                assert_eq!(after.get(version), Some(manifest), "{action:?} at {hit}");
            }
        }
    }
    scene.json(line);
    report(&format!(
        "train on a disk that fails: {failures} failures, each of {total} calls"
    ));
}

/// The database file is on the failing disk: the active version stays, and the next run continues.
#[test]
fn heavy_a_disk_that_fails_an_update() {
    let scene = on_sqlite();
    let watched = Watched::below(&scene.folder.path().join("test.db"));
    let line = "update --batch-size 50";
    scene.next_model();
    let total = calls(&scene, line, &watched);
    let (mut failures, mut survived) = (Tried::default(), 0);
    for at in instants(total, 5) {
        for action in ACTIONS {
            let (before, version) = (scene.active().unwrap(), scene.next_model());
            let (output, seen) = run(&scene, line, &watched, action, at);
            let log = String::from_utf8_lossy(&output.stderr);
            let instant = format!("{action:?} at {:?}: {log}", seen.hit);
            failures.count(seen.hit.is_some());
            assert!(output.status.code().is_some(), "{instant}");
            survived += u64::from(output.status.success());
            if output.status.success() {
                assert_eq!(scene.active(), Some(version), "{instant}");
            } else {
                // SQLite, too, takes a file that it cannot open for a read-only one.
                let reasons = ["disk", "unable to open database file", "readonly database"];
                assert!(
                    reasons.iter().any(|reason| log.contains(reason)),
                    "{instant}"
                );
            }
            scene.check(before, version, &instant);
            scene.again(line);
            scene.converged(version, &instant);
        }
    }
    report(&format!(
        "update of a database on a disk that fails: {failures} failures at {total} calls, {survived} of them tried again with success"
    ));
    failures.check();
}

/// Existing versions with the checksums of their manifests; all of them load.
fn folders(scene: &Scene) -> std::collections::BTreeMap<i64, String> {
    let models = scene.models();
    let versions = model_files::versions(&models).unwrap().into_iter();
    versions
        .map(|version| {
            let (_, manifest) = model_files::load(&models.join(version.to_string())).unwrap();
            (version, manifest.checksum)
        })
        .collect()
}
