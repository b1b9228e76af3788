//! A version that the quality gate refuses is loaded, and nobody sees it; the gate's judgement itself is tested in the core.

use super::place::Place;
use serde_json::json;

/// Floors that random weights pass.
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
            "REFUSED  AUC on likes it has not seen is",
            "readers keep what they see",
        ] {
            assert!(refused.contains(words), "{refused}");
        }
        assert_eq!(place.active(), Some(one));
        // The next night does not try again.
        assert_eq!(place.json("update")["version"], one);
        let shown = place.json("models show 2");
        assert_eq!(shown["state"], "candidate");
        assert_eq!(shown["verdict"]["checks"][0]["name"], "users");

        place.refused("models promote 2", 5);
        place.json("models promote 2 --force --reason why-not");
        let shown = place.json("models show 2");
        assert_eq!(place.active(), Some(two));
        assert_eq!(shown["activations"][0]["forced"], json!(true));
        // Back to what was served before: nobody is asked.
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
