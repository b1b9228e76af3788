//! A folder on a file system that hangs.

use super::super::processes::log;
use super::{SMALL, doctor, finding, told};
use crate::life_cycle::place::Place;
use crate::preload::Preload;
use serde_json::Value;

/// It is reported, and the process exits although the blocked thread never returns.
#[test]
fn a_file_system_that_does_not_answer_holds_nobody() {
    let place = Place::on_sqlite();
    place.configure(SMALL);
    let library = Preload::build("operations/doctor/hanging.c");
    let models = place.folder.path().canonicalize().unwrap().join("models");
    let mut command = place.command("--json alert check");
    command
        .env("LD_PRELOAD", &library.path)
        .env("TWOTOWER_TEST_HANGS", &models);
    let output = command.output().unwrap();
    let said = log(&output);
    assert!(output.status.success(), "{said}");
    let told_of: Value = serde_json::from_slice(&output.stdout).unwrap();
    let firing = told_of["firing"].as_array().unwrap();
    let space = firing.iter().find(|alert| alert["key"] == "disk-space");
    let space = space.unwrap_or_else(|| panic!("{told_of:#}"));
    let evidence = space["evidence"].as_str().unwrap();
    assert_eq!(evidence, "the file system does not answer in time");
    // The named folder is the one that hangs.
    let (_, value) = told(doctor(&place, "--only disk-space"));
    let (verdict, evidence, _) = finding(&value, "disk-space", None);
    assert_eq!(verdict, "passed", "{evidence}");
}
