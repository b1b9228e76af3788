//! A version that the quality gate refuses is loaded but not shown; the gate's judgement itself is
//! tested in the core.

use super::place::Place;
use crate::serve::fixture::model;
use serde_json::json;

/// Thresholds that random weights pass.
const EASY: &str = "[gate]\nmin_auc = 0.0\nmin_users = 0\nmin_known_videos = 0.0";

#[test]
fn a_refused_version_becomes_active_by_force_alone_and_the_history_says_so() {
    for place in Place::on_both() {
        let (one, two) = (place.next_model(), place.next_model());
        place.configure(EASY);
        let updated = place.json("update --model-path models/1");
        assert_eq!(updated["activated"], true, "{updated}");
        let checks = updated["verdict"]["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["passed"] == true));

        place.configure("");
        let refused = place.refused("update", 5);
        for words in [
            "version 2 was refused",
            "REFUSED  AUC is not known, for there is nobody to rank for",
            "readers keep what they see",
        ] {
            assert!(refused.contains(words), "{refused}");
        }
        assert_eq!(place.active(), Some(one));
        // The next unattended update does not try it again.
        assert_eq!(place.json("update")["version"], one);
        let shown = place.json("models show 2");
        assert_eq!(shown["state"], "candidate");
        assert_eq!(shown["verdict"]["checks"][0]["name"], "users");

        place.refused("models promote 2", 5);
        place.json("models promote 2 --force --reason why-not");
        let shown = place.json("models show 2");
        assert_eq!(place.active(), Some(two));
        assert_eq!(shown["activations"][0]["forced"], json!(true));
        // A rollback does not ask the gate.
        place.json("rollback");
        assert_eq!(place.active(), Some(one));
    }
}

#[test]
fn a_champion_that_is_not_there_cannot_be_beaten() {
    let place = Place::on_sqlite();
    let (_, two) = (place.next_model(), place.next_model());
    place.configure(EASY);
    place.json("update --model-path models/1");
    let models = place.folder.path().join("models");
    std::fs::rename(models.join("1"), place.folder.path().join("elsewhere")).unwrap();
    let refused = place.refused("update", 5);
    assert!(
        refused.contains("version 1, which is served, is not in"),
        "{refused}"
    );
    let forced = place.json("update --model-path models/2 --force");
    assert_eq!(forced["active_version"], json!(two));
}

/// For example a copy of another machine's folder: a comparison with it would say nothing about the
/// champion.
#[test]
fn another_model_of_the_champions_number_is_not_the_champion() {
    let place = Place::on_sqlite();
    let (one, _) = (place.next_model(), place.next_model());
    place.configure(EASY);
    place.json("update --model-path models/1");
    let models = place.models();
    let away = place.folder.path().join("elsewhere");
    std::fs::rename(models.join("1"), &away).unwrap();
    place.save(one, &model(99));
    let refused = place.refused("update", 5);
    for words in [
        "REFUSED  models/1 holds another model than version 1, which is served",
        "twotower fetch --version 1",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(place.active(), Some(one));
    // The gate can judge a refused version again once the right champion is present.
    std::fs::remove_dir_all(models.join("1")).unwrap();
    std::fs::rename(away, models.join("1")).unwrap();
    let updated = place.json("update --model-path models/2 --no-activate");
    let checks = updated["verdict"]["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["name"] != "champion"),
        "{updated}"
    );
}

/// For example by another version of twotower: an unknown verdict is no permission.
#[test]
fn a_verdict_that_cannot_be_read_refuses() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update --no-activate");
        let verdict = json!({ "checks": "all well" });
        let kept = place.store.record_verdict(1, &verdict);
        place.runtime.block_on(kept).unwrap();
        let refused = place.refused("models promote 1", 5);
        for words in [
            "what the quality gate said of version 1 cannot be read",
            "--force",
        ] {
            assert!(refused.contains(words), "{refused}");
        }
        assert_eq!(place.active(), None);
        let shown = place.run("models show 1");
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(
            text.contains("quality gate     {\"checks\":\"all well\"}"),
            "{text}"
        );
        place.json("models promote 1 --force");
        let shown = place.json("models show 1");
        assert_eq!(shown["activations"][0]["forced"], json!(true));
    }
}

/// Neither a search of the log nor a fetching machine may take it for a success.
#[test]
fn a_refused_version_that_is_loaded_is_told_of() {
    let place = Place::on_sqlite();
    place.next_model();
    place.configure("");
    let output = place.run("update --no-activate");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("completed successfully"), "{log}");
    assert!(
        log.trim_end()
            .lines()
            .last()
            .is_some_and(|last| last.contains("WARN")
                && last.contains("model 1, which the quality gate refused")),
        "{log}"
    );
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        out.contains("loaded, but refused by the quality gate"),
        "{out}"
    );

    let published = place.run("publish --to storage --unsigned");
    let log = String::from_utf8_lossy(&published.stderr);
    assert!(published.status.success(), "{log}");
    assert!(
        log.contains("model 1, which is published, was refused by the quality gate"),
        "{log}"
    );
    assert!(
        log.trim_end().ends_with("publish completed successfully"),
        "{log}"
    );

    // Whoever activates it is told of the refusal.
    place.json("models promote 1 --force");
    let again = place.run("publish --to storage --unsigned");
    let log = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && !log.contains("refused"), "{log}");
}
