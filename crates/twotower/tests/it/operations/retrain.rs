//! `twotower run retrain` and the updates beside it: until a retraining is over, its model is its
//! own to publish and to make active.

use super::processes::log;
use super::run::runs;
use crate::life_cycle::place::{Place, whole};
use crate::serve::fixture::{model, save_model};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;
use twotower_core::time::DAY_US;
use twotower_store::RunState;

/// Random weights would not pass the gate.
const SETTINGS: &str = "[update]\ngate = false\n[run]\npause_seconds = 0\n";

/// Fewer likes than anything is learned from.
const FEW: &str = "[source]\nlikes = \"SELECT * FROM likes LIMIT 50\"\n";

/// When the models of tests are said to have been trained.
const TRAINED_AT_US: i64 = 1_732_000_000_000_000;

fn progress(place: &Place) -> PathBuf {
    place.folder.path().join("state/retrain.json")
}

/// As a retraining leaves it that was cut off.
fn cut_off(place: &Place, at_us: i64, version: Option<i64>, done: &[&str]) {
    let file = progress(place);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let progress = json!({
        "at_us": at_us,
        "fine_tune": false,
        "newest_before": 1,
        "version": version,
        "done": done,
    });
    fs::write(file, progress.to_string()).unwrap();
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    since.as_micros() as i64
}

/// Version 1 is served, and 2 is a folder.
fn two_models(place: &Place) {
    place.configure(SETTINGS);
    place.next_model();
    place.json("update");
    assert_eq!(place.next_model(), 2);
}

/// By both commands that run unattended.
fn updates_keep_to(place: &Place, version: i64) {
    for line in ["update", "run update"] {
        place.json(line);
        assert_eq!(place.active(), Some(version), "{line}");
    }
}

#[test]
fn a_model_that_is_not_published_yet_is_made_active_by_no_update() {
    for place in Place::on_both() {
        two_models(&place);
        place.like_more();
        // However long ago: nobody else publishes it.
        cut_off(&place, 1, Some(2), &["train"]);
        updates_keep_to(&place, 1);
        let said = log(&place.run("update --dry-run"));
        assert!(
            said.contains("version 2 in models is left to a retraining that is not over"),
            "{said}"
        );
        // Its load was cut off.
        let record = save_model(&place.folder.path().join("elsewhere"), &model(2), 2);
        let registered = place.store.register_model(&record);
        place.runtime.block_on(registered).unwrap();
        updates_keep_to(&place, 1);
        // The retraining goes on with it, and trains no other.
        cut_off(&place, now_us(), Some(2), &["train"]);
        place.configure(&format!("{SETTINGS}evaluate = false\n"));
        let ran = place.json("run retrain");
        assert_eq!(
            (&ran["state"], &ran["model_version"]),
            (&json!("succeeded"), &json!(2)),
            "{ran}"
        );
        assert!(!progress(&place).exists());
        updates_keep_to(&place, 2);
        assert!(place.vectors().contains(&whole(2)));
    }
}

#[test]
fn another_model_is_not_left_to_a_retraining_and_one_that_is_named_is_taken() {
    let place = Place::on_sqlite();
    two_models(&place);
    cut_off(&place, 1, Some(2), &["train"]);
    place.json("update --model-path models/2");
    assert_eq!(place.active(), Some(2));
    place.next_model();
    place.json("run update");
    assert_eq!(place.active(), Some(3));
}

#[test]
fn while_a_training_is_at_work_new_models_may_be_its_own() {
    let place = Place::on_sqlite();
    two_models(&place);
    cut_off(&place, now_us(), None, &[]);
    let lock = File::create(place.folder.path().join("state/retrain.lock")).unwrap();
    lock.lock().unwrap();
    updates_keep_to(&place, 1);
    lock.unlock().unwrap();
    // It was finished when its run was gone already.
    cut_off(&place, TRAINED_AT_US - 1, None, &[]);
    updates_keep_to(&place, 1);
    // It is older than the training.
    cut_off(&place, TRAINED_AT_US + 1, None, &[]);
    updates_keep_to(&place, 2);
}

#[test]
fn a_model_is_not_of_a_training_whose_time_was_over_before() {
    let place = Place::on_sqlite();
    two_models(&place);
    // The limit is a day.
    cut_off(&place, TRAINED_AT_US - DAY_US - 1, None, &[]);
    updates_keep_to(&place, 2);
}

#[test]
fn a_training_that_failed_is_not_gone_on_with() {
    let place = Place::on_sqlite();
    two_models(&place);
    place.configure(&format!("{SETTINGS}{FEW}"));
    place.json("update");
    let said = place.refused("run retrain", 3);
    assert!(
        said.contains("50 likes are too few to learn from"),
        "{said}"
    );
    let run = &runs(&place, "retrain")[0];
    assert_eq!((run.state, run.exit_code), (RunState::Failed, Some(3)));
    assert!(!progress(&place).exists());
}

#[test]
fn a_report_that_fails_is_no_failure_of_the_retraining() {
    let place = Place::on_sqlite();
    two_models(&place);
    place.configure(&format!("{SETTINGS}{FEW}"));
    cut_off(&place, now_us(), Some(2), &["train"]);
    let ran = place.json("run retrain");
    assert_eq!(ran["state"], "succeeded", "{ran}");
    let message = ran["message"].as_str().unwrap();
    assert!(
        message.starts_with("the model has no report: `twotower evaluate --model-path models/2`"),
        "{message}"
    );
    assert_eq!(place.active(), Some(2));
    let run = &runs(&place, "retrain")[0];
    assert_eq!((run.state, run.exit_code), (RunState::Succeeded, Some(0)));
    assert!(!progress(&place).exists());
}
