//! `twotower prune` removes old versions and vectors of dormant users, and nothing else.

use super::place::Place;
use crate::serve::fixture::{user, video};
use crate::support::{Workplace, sql};
use serde_json::{Value, json};
use std::time::Duration;
use twotower_core::time::DAY_US;
use twotower_store::{FinishedRun, InteractionKind, InteractionRow, NewRun, RunState};

const SETTINGS: &str = "[update]\ngate = false\n[prune]\nkeep_versions = 1\nfailed_days = 0\n";

/// Versions 1 to 5, activated one after the other.
fn with_versions(place: &Place) {
    place.configure(SETTINGS);
    for _ in 0..5 {
        place.next_model();
        place.json("update");
    }
}

fn folders(place: &Place) -> Vec<String> {
    let models = place.folder.path().join("models");
    let mut names: Vec<String> = std::fs::read_dir(models)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn versions(report: &Value) -> Vec<(i64, String)> {
    let versions = report["versions"].as_array().unwrap().iter();
    versions
        .map(|one| {
            let reason = one["reason"].as_str().unwrap().to_owned();
            (one["version"].as_i64().unwrap(), reason)
        })
        .collect()
}

fn superseded(versions: &[i64]) -> Vec<(i64, String)> {
    let superseded = |&version| (version, "superseded".to_owned());
    versions.iter().map(superseded).collect()
}

#[test]
fn old_versions_go_and_stay_in_the_books() {
    for place in Place::on_both() {
        with_versions(&place);
        place.json("rollback");
        // 4 is active, 3 is the target of a rollback, and 5 is the newest of the others.
        let dry = place.json("prune --dry-run");
        assert_eq!(versions(&dry), superseded(&[1, 2]));
        assert_eq!(place.vectors().len(), 5);
        assert_eq!(folders(&place), ["1", "2", "3", "4", "5"]);

        let models = place.folder.path().join("models");
        std::fs::write(models.join("1/notes.txt"), "mine").unwrap();
        std::fs::create_dir(models.join("2.bak")).unwrap();
        let report = place.json("prune");
        assert_eq!(versions(&report), superseded(&[1, 2]));
        assert_eq!(report["versions"][1]["video_vectors"], 40);
        assert_eq!(report["versions"][1]["folder"], "models/2");
        assert_eq!(report["versions"][0]["folder"], Value::Null);
        assert_eq!(folders(&place), ["1", "2.bak", "3", "4", "5"]);
        let left: Vec<i64> = place
            .vectors()
            .iter()
            .map(|(version, ..)| *version)
            .collect();
        assert_eq!(left, [3, 4, 5]);
        assert_eq!(place.active(), Some(4));
        let shown = place.json("models show 2");
        assert!(shown["pruned_at_us"].is_i64(), "{shown}");
        for line in ["models promote 2", "rollback --to 2"] {
            let log = place.refused(line, 1);
            assert!(log.contains("were removed by `twotower prune` on"), "{log}");
        }
        // The obstacle is removed; after that there is nothing left to do.
        std::fs::remove_file(models.join("1/notes.txt")).unwrap();
        assert_eq!(versions(&place.json("prune")), [(1, "unfinished".into())]);
        assert_eq!(folders(&place), ["2.bak", "3", "4", "5"]);
        assert_eq!(versions(&place.json("prune")), []);
        place.json("rollback");
        assert_eq!(place.active(), Some(3));
    }
}

/// A folder with the right number but another model is not the registered one.
#[test]
fn a_folder_of_another_model_is_left_alone() {
    let place = Place::on_sqlite();
    with_versions(&place);
    let models = place.folder.path().join("models");
    std::fs::remove_dir_all(models.join("1")).unwrap();
    let other = crate::serve::fixture::model(99);
    crate::serve::fixture::save_model(&models, &other, 1);
    std::fs::remove_file(models.join("2/manifest.json")).unwrap();
    let report = place.json("prune");
    assert_eq!(versions(&report), superseded(&[1, 2, 3]));
    assert_eq!(folders(&place), ["1", "2", "4", "5"]);
}

#[test]
fn what_was_trained_before_an_erasure_goes_when_its_time_is_over() {
    for place in Place::on_both() {
        with_versions(&place);
        place.configure(&format!("{SETTINGS}[erase]\nretire_days = 0\n"));
        place.json(&format!("erase --user {}", user(7)));
        // The target of a rollback goes too; the active version is not removed, but reported.
        let output = place.run("--json prune");
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(
            log.contains("version 5, which is served, may have learned"),
            "{log}"
        );
        assert!(!log.contains("completed successfully"), "{log}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["overdue"]["version"], 5);
        let reasons: Vec<_> = versions(&report)
            .into_iter()
            .map(|(_, reason)| reason)
            .collect();
        assert_eq!(reasons, ["erasure"; 4]);
        assert_eq!(place.vectors(), [(5, 40, 299)]);
        let log = place.refused("rollback", 1);
        assert!(log.contains("were removed by `twotower prune`"), "{log}");
    }
}

/// Between loading a version and activating it, a retraining publishes it, which may take long.
#[test]
fn what_a_retraining_is_publishing_is_still_there_afterwards() {
    for place in Place::on_both() {
        place.configure(
            "[update]\ngate = false\n[prune]\nkeep_versions = 0\n[erase]\nretire_days = 0",
        );
        place.next_model();
        place.json("update");
        let next = place.next_model();
        place.json("update --no-activate");
        assert_eq!(versions(&place.json("prune")), []);
        assert_eq!(folders(&place), ["1", "2"]);
        place.json("models promote 2");
        assert_eq!(place.active(), Some(next));

        // Erased while the third model was trained.
        place.next_model();
        place.json("update --no-activate");
        let begin = |host: &str, pid: u32| {
            let new = NewRun {
                job: "retrain".into(),
                due_at_us: None,
                host: host.into(),
                pid,
                presumed_dead: Duration::from_hours(1),
            };
            place.runtime.block_on(place.store.begin_run(&new)).unwrap()
        };
        let run = begin("elsewhere", 1);
        place.json(&format!("erase --user {}", user(7)));
        let pruned = || {
            // The active version should have been replaced already.
            let output = place.run("--json prune");
            assert_eq!(output.status.code(), Some(1));
            versions(&serde_json::from_slice(&output.stdout).unwrap())
        };
        assert_eq!(pruned(), [(1, "erasure".into())]);
        assert_eq!(folders(&place), ["2", "3"]);
        let finished = FinishedRun {
            state: RunState::Failed,
            attempts: 1,
            exit_code: Some(1),
            model_version: Some(3),
            message: None,
        };
        let written = place.store.finish_run(run, &finished);
        place.runtime.block_on(written).unwrap();
        // Pruning is the last step of a retraining itself, here simulated by this process.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        begin(host.trim(), std::process::id());
        assert_eq!(pruned(), [(3, "erasure".into())]);
        assert_eq!(folders(&place), ["2"]);
    }
}

#[test]
fn the_second_says_who_publishes_and_removes_nothing() {
    for place in Place::on_both() {
        with_versions(&place);
        place.take_lease(Duration::from_mins(10));
        let held = place.json("prune");
        assert_eq!(held["held_by"]["host"], "elsewhere");
        assert_eq!(place.vectors().len(), 5);
        assert_eq!(folders(&place).len(), 5);
    }
}

/// A role that may read everything and write nothing suffices.
#[test]
fn a_dry_run_needs_no_right_to_write() {
    let place = Place::on_postgres();
    with_versions(&place);
    let role = format!("twotower_pruner_{}", std::process::id());
    sql(
        &place.url,
        &format!(
            "CREATE ROLE {role} LOGIN BYPASSRLS;
             ALTER ROLE {role} SET default_transaction_read_only = on;
             GRANT USAGE ON SCHEMA public, twotower, supabase_migrations TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA public, twotower, supabase_migrations TO {role};
             UPDATE user_embeddings SET updated_at = now() - interval '31 days'"
        ),
    );
    let reader = Workplace {
        url: place.url.replace("postgres@", &format!("{role}@")),
        folder: tempfile::tempdir().unwrap(),
    };
    reader.configure(SETTINGS);
    let models = place.folder.path().join("models");
    let line = format!("prune --model-path {}", models.display());
    let dry = reader.json(&format!("{line} --dry-run"));
    assert_eq!(versions(&dry), superseded(&[1, 2, 3]));
    assert_eq!(dry["dormant_vectors"], 0, "they have all liked at one time");
    let said = reader.refused(&line, 4);
    assert!(said.contains("takes no writes"), "{said}");
    assert_eq!(place.vectors().len(), 5);
    assert_eq!(folders(&place).len(), 5);
}

/// Failed loads and vectors of no version, once they are old enough.
#[test]
fn what_was_left_behind_goes() {
    let place = Place::on_postgres();
    place.configure("[update]\ngate = false");
    place.next_model();
    place.json("update");
    place.next_model();
    place.json("update --no-activate");
    let towers = || {
        let versions = "SELECT string_agg(DISTINCT version::text, ' ') FROM twotower.user_towers";
        sql(&place.url, versions)
    };
    assert_eq!(towers(), "1 2");
    sql(
        &place.url,
        "UPDATE twotower.models SET state = 'failed' WHERE version = 2;
         INSERT INTO video_embeddings SELECT video_id, 77, embedding, 0 FROM video_embeddings WHERE model_version = 1;
         INSERT INTO user_embeddings SELECT user_id, 77, embedding, 0 FROM user_embeddings WHERE model_version = 1",
    );
    assert_eq!(versions(&place.json("prune")), []);
    sql(
        &place.url,
        "UPDATE twotower.models SET created_at = now() - interval '8 days';
         UPDATE video_embeddings SET updated_at = now() - interval '8 days'",
    );
    // The vectors of users are still being written.
    assert_eq!(versions(&place.json("prune")), [(2, "failed".into())]);
    assert_eq!(towers(), "1");
    sql(
        &place.url,
        "UPDATE user_embeddings SET updated_at = now() - interval '8 days'",
    );
    assert_eq!(
        versions(&place.json("prune")),
        [(77, "unregistered".into())]
    );
    assert_eq!(place.vectors(), [(1, 40, 300)]);
    // A version activated before the database stored towers gets its tower with the next update.
    sql(&place.url, "DELETE FROM twotower.user_towers");
    place.json(&format!(
        "update --model-path {}",
        place.folder.path().join("models/1").display()
    ));
    assert_eq!(towers(), "1");
}

/// The users of the place have liked a month and a day before this like.
fn with_a_later_like(place: &Place) {
    let like = InteractionRow {
        user: user(5),
        video: video(40),
        at_us: 1_700_000_000_000_000 + 31 * DAY_US,
    };
    let likes = [like];
    let written = place
        .store
        .write_interactions(InteractionKind::Like, &likes);
    place.runtime.block_on(written).unwrap();
}

#[test]
fn users_who_stay_away_have_no_vector() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        with_a_later_like(&place);
        // Existing vectors stay until they are pruned.
        let update = place.json("update");
        assert_eq!(
            (&update["users"]["unchanged"], &update["users"]["dormant"]),
            (&json!(299), &json!(0))
        );
        assert_eq!(
            place.json("prune")["dormant_vectors"],
            0,
            "written just now"
        );
        // The next version gets vectors of active users only, and passes its check.
        place.next_model();
        let update = place.json("update");
        assert_eq!(
            (&update["users"]["new"], &update["users"]["dormant"]),
            (&json!(1), &json!(299))
        );
        assert_eq!(place.vectors(), [(1, 40, 300), (2, 40, 1)]);
        place.configure("[update]\ngate = false\n[prune]\nuser_vector_days = 0");
        assert_eq!(place.json("update")["users"]["new"], 299);
    }
}

/// `twotower prune` and the SQL of the guide mean the same users, and no update restores them.
#[test]
fn what_was_cleaned_up_stays_away() {
    const GUIDE: &str = "DELETE FROM user_embeddings
        WHERE updated_at < NOW() - INTERVAL '30 days'
        AND user_id NOT IN (
            SELECT user_id FROM likes
            WHERE created_at > NOW() - INTERVAL '7 days'
        )";
    const RECENT: &str =
        "UPDATE likes SET created_at = created_at + (SELECT now() - max(created_at) FROM likes)";
    const AGE: &str = "UPDATE user_embeddings SET updated_at = now() - interval '31 days' WHERE user_id <> '0b000000-0000-4000-8000-000000000005'";
    for by_guide in [true, false] {
        let place = Place::on_postgres();
        place.next_model();
        place.json("update");
        with_a_later_like(&place);
        sql(&place.url, RECENT);
        place.json("update");
        sql(&place.url, AGE);
        if by_guide {
            sql(&place.url, GUIDE);
        } else {
            assert_eq!(place.json("prune --dry-run")["dormant_vectors"], 299);
            assert_eq!(place.vectors(), [(1, 40, 300)]);
            assert_eq!(place.json("prune")["dormant_vectors"], 299);
        }
        assert_eq!(place.vectors(), [(1, 40, 1)]);
        let update = place.json("update");
        assert_eq!(
            (&update["users"]["new"], &update["users"]["dormant"]),
            (&json!(0), &json!(299))
        );
        assert_eq!(place.vectors(), [(1, 40, 1)]);
        // Restored with the next like.
        let like = "INSERT INTO likes VALUES ('0b000000-0000-4000-8000-000000000009', '0a000000-0000-4000-8000-000000000028', now())";
        sql(&place.url, like);
        assert_eq!(place.json("update")["users"]["new"], 1);
        assert_eq!(place.vectors(), [(1, 40, 2)]);
    }
}
