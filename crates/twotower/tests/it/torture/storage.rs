//! A publishing or fetching process that is killed, or whose disk fails, at each call that changes
//! something.

use super::faults::{Action, DISK_FULL, IO_ERROR, Watched};
use super::kills::{calls, killed};
use super::scene::{Scene, on_sqlite};
use super::{Tried, errors, instants, report};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file below a folder, with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// A fetch at this point gets nothing, or a complete model; returns which.
fn fetched_is_whole(scene: &Scene, version: i64, instant: &str) -> bool {
    let to = tempfile::tempdir().unwrap();
    let line = format!(
        "fetch --from store --version {version} --allow-unsigned --output-dir {}",
        to.path().display()
    );
    let output = scene.run(&line);
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let (ours, theirs) = (scene.models(), to.path());
        let of = |models: &Path| content(&models.join(version.to_string()));
        assert_eq!(of(&ours), of(theirs), "{instant}");
    } else {
        assert!(log.contains("no complete version"), "{instant}: {log}");
    }
    output.status.success()
}

fn publish(version: i64) -> String {
    format!("publish --model-path models/{version} --to store --unsigned")
}

#[test]
fn heavy_a_killed_or_failing_publish() {
    let scene = on_sqlite();
    let watched = Watched::below(&scene.folder.path().join("store"));
    let first = scene.next_model();
    let total = calls(&scene, &publish(first), &watched);
    let (mut kills, mut failures) = (Tried::default(), Tried::default());
    let actions = [
        Action::Kill,
        Action::Torn,
        Action::Error(DISK_FULL),
        Action::Errors(IO_ERROR),
    ];
    for at in instants(total, 6) {
        for action in actions {
            let version = scene.next_model();
            let line = publish(version);
            let instant = format!("{action:?} at call {at} of {total} of `{line}`");
            if let Action::Kill | Action::Torn = action {
                kills.count(killed(&scene, &line, &watched, action, at).is_some());
            } else {
                let (output, seen) = errors::run(&scene, &line, &watched, action, at);
                failures.count(seen.hit.is_some());
                let log = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.code().is_some(), "{instant}: {log}");
                // A retry may succeed.
                let reason = log.contains("No space left") || log.contains("Input/output error");
                assert!(output.status.success() || reason, "{instant}: {log}");
            }
            assert!(fetched_is_whole(&scene, first, &instant), "{instant}");
            fetched_is_whole(&scene, version, &instant);
            scene.json(&line);
            assert!(fetched_is_whole(&scene, version, &instant), "{instant}");
            fs::remove_dir_all(
                scene
                    .folder
                    .path()
                    .join("store/models")
                    .join(version.to_string()),
            )
            .unwrap();
            scene.forget(version);
        }
    }
    report(&format!(
        "publish to a folder: {kills} kills, {failures} failing calls"
    ));
    kills.check();
    failures.check();
}

#[test]
fn heavy_a_killed_or_failing_fetch() {
    let scene = on_sqlite();
    let version = scene.next_model();
    scene.json(&publish(version));
    let whole = content(&scene.models().join(version.to_string()));
    let fetched = scene.folder.path().join("fetched");
    let watched = Watched::below(&fetched);
    let line = "fetch --from store --allow-unsigned --output-dir fetched";
    let total = calls(&scene, line, &watched);
    let (mut kills, mut failures) = (Tried::default(), Tried::default());
    for at in instants(total, 6) {
        for action in [
            Action::Kill,
            Action::Torn,
            Action::Error(DISK_FULL),
            Action::Errors(IO_ERROR),
        ] {
            fs::remove_dir_all(&fetched).unwrap();
            let instant = format!("{action:?} at call {at} of {total} of `{line}`");
            if let Action::Kill | Action::Torn = action {
                kills.count(killed(&scene, line, &watched, action, at).is_some());
            } else {
                let (output, seen) = errors::run(&scene, line, &watched, action, at);
                failures.count(seen.hit.is_some());
                let log = String::from_utf8_lossy(&output.stderr);
                let reason = log.contains("No space left") || log.contains("Input/output error");
                assert!(output.status.success() || reason, "{instant}: {log}");
            }
            let folder = fetched.join(version.to_string());
            if folder.exists() {
                assert_eq!(content(&folder), whole, "{instant}");
            }
            scene.json(line);
            assert_eq!(content(&folder), whole, "{instant}");
        }
    }
    report(&format!(
        "fetch from a folder: {kills} kills, {failures} failing calls"
    ));
    kills.check();
    failures.check();
}
