//! Backups and restorations that are killed, or whose disk is full.

use super::faults::{Action, DISK_FULL, Watched, inject};
use super::kills::{calls, killed};
use super::scene::{Scene, on_postgres, on_sqlite};
use super::{instants, report};
use crate::life_cycle::place::Place;
use std::path::{Path, PathBuf};
use twotower_store::{Backup, StoreKind};

const BACKUP: &str = "backup --to copies";

/// Removes the folder of backups, and makes none.
fn without_backups(scene: &Scene) -> PathBuf {
    let root = scene.folder.path().join("copies");
    let _ = std::fs::remove_dir_all(&root);
    root
}

/// The names that do not begin with a dot.
fn visible(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect()
}

fn check_whole(root: &Path, instant: &str) -> usize {
    let found = visible(root);
    for folder in &found {
        let verified = Backup::open(folder).and_then(|backup| backup.verify());
        assert!(verified.is_ok(), "{instant}: {verified:?}");
    }
    found.len()
}

/// Kills backups at their calls on files: each is whole under its name, or has none; the next clears up.
#[test]
fn heavy_killed_backups_leave_no_half_folder() {
    for scene in [on_sqlite(), on_postgres()] {
        let root = without_backups(&scene);
        std::fs::create_dir(&root).unwrap();
        let watched = Watched::below(&root);
        let total = calls(&scene, BACKUP, &watched);
        let mut kills = 0;
        for action in [Action::Kill, Action::Torn] {
            for at in instants(total, 6) {
                let instant = format!("{action:?} at call {at} of {total} of `{BACKUP}`");
                without_backups(&scene);
                std::fs::create_dir(&root).unwrap();
                let hit = killed(&scene, BACKUP, &watched, action, at);
                kills += u64::from(hit.is_some());
                check_whole(&root, &instant);
                std::thread::sleep(std::time::Duration::from_millis(1100));
                scene.json(BACKUP);
                assert!(check_whole(&root, &instant) >= 1);
                let all = std::fs::read_dir(&root).unwrap().count();
                assert_eq!(all, visible(&root).len(), "{instant}: something is left");
            }
        }
        report(&format!("backup: {kills} kills"));
        assert!(kills > 0);
    }
}

#[test]
fn heavy_a_full_disk_is_named() {
    let scene = on_sqlite();
    let root = without_backups(&scene);
    std::fs::create_dir(&root).unwrap();
    let watched = Watched::below(&root);
    let total = calls(&scene, BACKUP, &watched);
    for at in instants(total, 6) {
        without_backups(&scene);
        std::fs::create_dir(&root).unwrap();
        let mut command = scene.command(BACKUP);
        let log = inject(&mut command, &watched, Action::Errors(DISK_FULL), at);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let instant = format!("full at call {at} of {total}: {said}");
        if output.status.success() {
            // Clearing up alone met it, or nothing did.
            check_whole(&root, &instant);
            continue;
        }
        assert!(log.seen().hit.is_some(), "{instant}");
        assert!(
            said.contains("No space left on device") && said.contains("copies"),
            "{instant}"
        );
        // What has its name was whole before the disk was full.
        check_whole(&root, &instant);
    }
}

/// Kills restorations at their calls: readers see what was there before or all of the backup, and the next one ends it.
fn kill_restorations(scene: &Scene, few: u64) {
    let root = without_backups(scene);
    scene.json(BACKUP);
    let backup = visible(&root).pop().unwrap();
    let (active, hash) = (scene.active().unwrap(), scene.hash(scene.active().unwrap()));
    let line = format!("restore {}", backup.display());
    let fresh = || -> Place {
        let place = match scene.store.kind() {
            StoreKind::Postgres => Place::on_postgres(),
            StoreKind::Sqlite => Place::on_sqlite(),
        };
        place.lease_of_one_second();
        place
    };
    let target = Scene::bare(fresh());
    let watched = match scene.store.kind() {
        StoreKind::Postgres => Watched::sockets(),
        StoreKind::Sqlite => Watched::below(target.folder.path()),
    };
    let total = calls(&target, &line, &watched);
    assert_eq!((target.active(), target.hash(active)), (Some(active), hash));
    let mut kills = 0;
    for at in instants(total, few) {
        let instant = format!("kill at call {at} of {total} of `{line}`");
        let target = Scene::bare(fresh());
        let watched = match scene.store.kind() {
            StoreKind::Postgres => Watched::sockets(),
            StoreKind::Sqlite => Watched::below(target.folder.path()),
        };
        let hit = killed(&target, &line, &watched, Action::Kill, at);
        kills += u64::from(hit.is_some());
        if scene.store.kind() == StoreKind::Postgres {
            target.reconnect();
        }
        match target.active() {
            None => assert!(target.vectors().is_empty(), "{instant}"),
            Some(version) => {
                assert_eq!((version, target.hash(version)), (active, hash), "{instant}");
            }
        }
        target.patiently(&line);
        assert_eq!(
            (target.active(), target.hash(active)),
            (Some(active), hash),
            "{instant}"
        );
        assert!(
            target
                .models()
                .join(active.to_string())
                .join("manifest.json")
                .exists()
        );
    }
    report(&format!("restore: {kills} kills"));
    assert!(kills > 0);
}

#[test]
fn heavy_killed_restorations_on_postgres() {
    kill_restorations(&on_postgres(), 6);
}

#[test]
fn heavy_killed_restorations_on_sqlite() {
    kill_restorations(&on_sqlite(), 6);
}
