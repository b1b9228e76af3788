//! Backups and restores that are killed, or whose disk is full or broken.

use super::errors::goes_well;
use super::faults::{Action, DISK_FULL, IO_ERROR, Watched};
use super::kills::{calls, killed};
use super::scene::{Scene, on_postgres, on_sqlite};
use super::{Tried, instants, report, trials};
use crate::life_cycle::place::Place;
use std::path::{Path, PathBuf};
use twotower_store::{Backup, StoreKind, model_files};

const BACKUP: &str = "backup --to copies";

const FAILURES: [Action; 4] = [
    Action::Error(IO_ERROR),
    Action::Errors(DISK_FULL),
    Action::Errors(IO_ERROR),
    Action::Error(DISK_FULL),
];

/// Removes the folder of backups; returns its path.
fn without_backups(scene: &Scene) -> PathBuf {
    let root = scene.folder.path().join("copies");
    let _ = std::fs::remove_dir_all(&root);
    root
}

/// Names that do not begin with a dot.
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

/// Kills backups at their file system calls: each is complete under its name, or has none; the next
/// one cleans up.
#[test]
fn heavy_killed_backups_leave_no_half_folder() {
    for scene in [on_sqlite(), on_postgres()] {
        let root = without_backups(&scene);
        std::fs::create_dir(&root).unwrap();
        let watched = Watched::below(&root);
        let total = calls(&scene, BACKUP, &watched);
        let mut kills = Tried::default();
        for action in [Action::Kill, Action::Torn] {
            for at in instants(total, 6) {
                let instant = format!("{action:?} at call {at} of {total} of `{BACKUP}`");
                without_backups(&scene);
                std::fs::create_dir(&root).unwrap();
                let hit = killed(&scene, BACKUP, &watched, action, at);
                kills.count(hit.is_some());
                check_whole(&root, &instant);
                scene.json(BACKUP);
                assert!(check_whole(&root, &instant) >= 1);
                let all = std::fs::read_dir(&root).unwrap().count();
                assert_eq!(all, visible(&root).len(), "{instant}: something is left");
            }
        }
        report(&format!("backup: {kills} kills"));
        kills.check();
    }
}

/// After a single disk error nothing remains; a backup with its final name is complete in any case;
/// and the next one succeeds and cleans up.
#[test]
fn heavy_backups_onto_a_disk_that_fails() {
    let scene = on_sqlite();
    let root = without_backups(&scene);
    std::fs::create_dir(&root).unwrap();
    let watched = Watched::below(&root);
    let total = calls(&scene, BACKUP, &watched);
    let (mut tried, mut well) = (Tried::default(), 0);
    for (at, action) in trials(total, 6, &FAILURES) {
        without_backups(&scene);
        std::fs::create_dir(&root).unwrap();
        let instant = format!("{action:?} at call {at} of {total} of `{BACKUP}`");
        let named = (&["copies"][..], &mut tried);
        // The error may hit only the clean-up.
        if goes_well(&scene, BACKUP, &watched, (at, action), named) {
            well += 1;
            assert_eq!(check_whole(&root, &instant), 1, "{instant}");
        } else {
            let left = check_whole(&root, &instant);
            assert!(
                left == 0 || matches!(action, Action::Errors(_)),
                "{instant}"
            );
        }
        scene.json(BACKUP);
        assert!(check_whole(&root, &instant) >= 1, "{instant}");
        let all = std::fs::read_dir(&root).unwrap().count();
        assert_eq!(all, visible(&root).len(), "{instant}: something is left");
    }
    report(&format!(
        "backup onto a disk that fails: {tried} instants among {total} calls, {well} of them without harm"
    ));
    tried.check();
    assert!(well < tried.all);
}

#[test]
fn heavy_backups_of_models_that_cannot_be_read() {
    let scene = on_sqlite();
    let root = without_backups(&scene);
    let watched = Watched::reading(&scene.models());
    let total = calls(&scene, BACKUP, &watched);
    let actions = [Action::Error(IO_ERROR), Action::Errors(IO_ERROR)];
    let mut tried = Tried::default();
    for (at, action) in trials(total, 2, &actions) {
        without_backups(&scene);
        let instant = format!("{action:?} at read {at} of {total} of `{BACKUP}`");
        let named = (&["models"][..], &mut tried);
        let well = goes_well(&scene, BACKUP, &watched, (at, action), named);
        let whole = check_whole(&root, &instant);
        assert_eq!(whole, usize::from(well), "{instant}");
        scene.json(BACKUP);
    }
    tried.check();
}

/// The state that a backup restores: the active version and the hash of its vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restored {
    active: i64,
    hash: u64,
}

impl Restored {
    /// Backs up the scene, as its only backup; returns the state and the folder.
    pub(super) fn back_up(scene: &Scene) -> (Self, PathBuf) {
        let root = without_backups(scene);
        scene.json(BACKUP);
        let active = scene.active().unwrap();
        let hash = scene.hash(active);
        (Self { active, hash }, visible(&root).pop().unwrap())
    }

    /// Checks the target after a restore into a database without a model that ended at any instant.
    pub(super) fn all_or_nothing(self, target: &Scene, instant: &str) {
        match target.active() {
            None => assert!(target.vectors().is_empty(), "{instant}"),
            Some(version) => {
                let found = (version, target.hash(version));
                assert_eq!(found, (self.active, self.hash), "{instant}");
            }
        }
        let models = target.models();
        for version in model_files::versions(&models).unwrap_or_default() {
            let loaded = model_files::load(&models.join(version.to_string()));
            assert!(loaded.is_ok(), "{instant}: {:?}", loaded.err());
        }
    }

    /// One more restore completes everything.
    pub(super) fn again(self, target: &Scene, line: &str, instant: &str) {
        target.patiently(line);
        let found = (target.active(), target.hash(self.active));
        assert_eq!(found, (Some(self.active), self.hash), "{instant}");
        let folder = target.models().join(self.active.to_string());
        assert!(folder.join("manifest.json").exists(), "{instant}");
    }
}

/// A database with only likes and videos.
fn fresh(kind: StoreKind) -> Scene {
    let place = match kind {
        StoreKind::Postgres => Place::on_postgres(),
        StoreKind::Sqlite => Place::on_sqlite(),
    };
    place.lease_of_one_second();
    Scene::bare(place)
}

/// Database and models are on the failing disk.
#[test]
fn heavy_restorations_onto_a_disk_that_fails() {
    let scene = on_sqlite();
    let (restored, backup) = Restored::back_up(&scene);
    let line = format!("restore {}", backup.display());
    let target = fresh(StoreKind::Sqlite);
    let total = calls(&target, &line, &Watched::below(target.folder.path()));
    restored.again(&target, &line, "nothing has happened");
    let (mut tried, mut well) = (Tried::default(), 0);
    for (at, action) in trials(total, 5, &FAILURES) {
        let target = fresh(StoreKind::Sqlite);
        let instant = format!("{action:?} at call {at} of {total} of `{line}`");
        let watched = Watched::below(target.folder.path());
        let places = (&["models", "database", "test.db"][..], &mut tried);
        well += u64::from(goes_well(&target, &line, &watched, (at, action), places));
        restored.all_or_nothing(&target, &instant);
        restored.again(&target, &line, &instant);
    }
    report(&format!(
        "restore onto a disk that fails: {tried} instants among {total} calls, {well} of them tried again with success"
    ));
    tried.check();
    assert!(well < tried.all);
}

#[test]
fn heavy_restorations_of_a_backup_that_cannot_be_read() {
    let scene = on_sqlite();
    let (restored, backup) = Restored::back_up(&scene);
    let line = format!("restore {}", backup.display());
    let watched = Watched::reading(&backup);
    let total = calls(&fresh(StoreKind::Sqlite), &line, &watched);
    let actions = [Action::Errors(IO_ERROR), Action::Error(IO_ERROR)];
    let mut read = trials(total, 3, &actions);
    // An unreadable file must not be taken for a missing one.
    read.push((1, Action::Errors(IO_ERROR)));
    let mut tried = Tried::default();
    for (at, action) in read {
        let target = fresh(StoreKind::Sqlite);
        let instant = format!("{action:?} at read {at} of {total} of `{line}`");
        let name = backup.file_name().unwrap().to_str().unwrap();
        // The manifest is read once more than necessary.
        let named = (&[name][..], &mut tried);
        let well = goes_well(&target, &line, &watched, (at, action), named);
        assert!(!well || matches!(action, Action::Error(_)), "{instant}");
        restored.all_or_nothing(&target, &instant);
        restored.again(&target, &line, &instant);
    }
    tried.check();
}

/// Kills restores at their system calls: readers see the previous state or the whole backup, and
/// the next restore completes it.
fn kill_restorations(scene: &Scene, few: u64) {
    let (restored, backup) = Restored::back_up(scene);
    let line = format!("restore {}", backup.display());
    let watched = |target: &Scene| match target.store.kind() {
        StoreKind::Postgres => Watched::sockets(),
        StoreKind::Sqlite => Watched::below(target.folder.path()),
    };
    let target = fresh(scene.store.kind());
    let total = calls(&target, &line, &watched(&target));
    restored.again(&target, &line, "nothing has happened");
    let mut kills = Tried::default();
    for at in instants(total, few) {
        let instant = format!("kill at call {at} of {total} of `{line}`");
        let target = fresh(scene.store.kind());
        let hit = killed(&target, &line, &watched(&target), Action::Kill, at);
        kills.count(hit.is_some());
        if scene.store.kind() == StoreKind::Postgres {
            target.reconnect();
        }
        restored.all_or_nothing(&target, &instant);
        restored.again(&target, &line, &instant);
    }
    report(&format!("restore: {kills} kills"));
    kills.check();
}

#[test]
fn heavy_killed_restorations_on_postgres() {
    kill_restorations(&on_postgres(), 6);
}

#[test]
fn heavy_killed_restorations_on_sqlite() {
    kill_restorations(&on_sqlite(), 6);
}
