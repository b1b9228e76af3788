//! Exports onto a disk that is full or broken, and exports that are killed.

use super::errors::goes_well;
use super::faults::{Action, EVERY_FAULT, Watched};
use super::imports::Files;
use super::kills::calls;
use super::{Tried, report, trials};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a folder, with its content.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Under its name an export is complete, or there is none; the next one succeeds and cleans up.
#[test]
fn heavy_exports_onto_a_disk_that_fails() {
    let place = Files::new().imported;
    let root = place.folder.path().join("exports");
    let folder = root.join("all");
    let line = "export --to exports/all --rows-per-file 500";
    let watched = Watched::below(&root);
    let total = calls(&place, line, &watched);
    let whole = files_below(&folder);
    let (mut tried, mut well) = (Tried::default(), 0);
    for (at, action) in trials(total, 8, &EVERY_FAULT) {
        // There is none if it could not be created.
        let _ = fs::remove_dir_all(&root);
        let instant = format!("{action:?} at call {at} of {total} of `{line}`");
        let named = (&["exports"][..], &mut tried);
        if goes_well(&place, line, &watched, (at, action), named) {
            well += 1;
        } else {
            if folder.exists() {
                // After a single disk error nothing remains.
                assert!(!matches!(action, Action::Error(_)), "{instant}");
                assert!(files_below(&folder) == whole, "{instant}");
                let said = place.refused(line, 1);
                assert!(said.contains("holds something already"), "{said}");
                fs::remove_dir_all(&folder).unwrap();
            }
            place.json(line);
        }
        assert!(files_below(&folder) == whole, "{instant}");
        let left: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["all"], "{instant}");
    }
    report(&format!(
        "export onto a disk that fails, or killed: {tried} instants among {total} calls, {well} of them without harm"
    ));
    tried.check();
    assert!(well < tried.all);
}
