//! A server on a database that changes meanwhile.

use super::fixture::{Fixture, Running, token, user, video};
use super::readiness::{ready, reason, serve_quickly, wait_for};
use crate::support::sql;
use twotower_core::feature::Video;
use twotower_store::{Arm, EmbeddingRow, InteractionKind, NewExperiment, VectorTable};
use uuid::Uuid;

/// All recommendations of a user, and the version that answers.
fn listed(server: &Running, who: u128) -> (Vec<String>, Option<i64>) {
    let (ids, body) = server
        .client
        .recommended(&token(user(who)), r#"{"limit":100}"#);
    (ids, body["model_version"].as_i64())
}

fn is_well(server: &Running) -> bool {
    let (status, body) = ready(server);
    status == 200 && reason(&body, "model").is_empty()
}

/// With ids that ascend with time, the newest come last, and their vectors come with the next
/// update.
#[test]
fn uploads_without_a_vector_hold_nothing_up() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let server = serve_quickly(&fixture);
    let (first, newest) = (Uuid::from_u128(1), video(1000));
    let uploads = [first, newest].map(|id| Video {
        id,
        title: "New".into(),
        ..Video::default()
    });
    let written = fixture.store.write_videos(&uploads);
    fixture.runtime.block_on(written).unwrap();
    let gone = listed(&server, 1).0.swap_remove(0);
    sql(
        &fixture.url,
        &format!("DELETE FROM videos WHERE id = '{gone}'"),
    );
    wait_for("the deleted video to be gone", || {
        !listed(&server, 1).0.contains(&gone)
    });
    assert!(is_well(&server));

    let anew = serve_quickly(&fixture);
    assert!(is_well(&anew));
    let (ids, version) = listed(&anew, 1);
    assert_eq!((ids.len(), version), (28, Some(1)), "{ids:?}");
    let contains = |id: Uuid| ids.contains(&id.to_string());
    assert!(!contains(first) && !contains(newest));

    // The next version has them; then the previous one is activated again.
    let version = fixture.load(2);
    let mut vector = [0.0; 8];
    vector[0] = 1.0;
    let rows = [first, newest].map(|id| EmbeddingRow {
        id,
        fingerprint: 0,
        vector: &vector,
    });
    let written = fixture
        .store
        .write_embeddings(VectorTable::Videos, version, &rows);
    fixture.runtime.block_on(written).unwrap();
    fixture.activate(version);
    wait_for("version 2", || listed(&anew, 1).1 == Some(version));
    assert_eq!(listed(&anew, 1).0.len(), 30);
    fixture.activate(1);
    wait_for("version 1", || listed(&anew, 1).1 == Some(1));
    assert_eq!(listed(&anew, 1).0.len(), 28);
}

/// The database's own constraint would reject such a vector, so it is dropped here.
#[test]
fn a_vector_that_is_none_is_told_and_is_no_outage() {
    let fixture = Fixture::on_postgres();
    let version = fixture.train(1);
    let server = serve_quickly(&fixture);
    let scale = |by: &str| {
        let text = format!(
            "UPDATE video_embeddings SET updated_at = now(), embedding =
                 (SELECT array_agg((x * {by})::real ORDER BY n) FROM unnest(embedding::real[]) WITH ORDINALITY AS of (x, n))
             WHERE video_id = '{}'",
            video(7)
        );
        sql(&fixture.url, &text);
    };
    sql(
        &fixture.url,
        "ALTER TABLE video_embeddings DROP CONSTRAINT video_embeddings_norm_is_0_999_to_1_001",
    );
    scale("1.005");
    let summary = fixture
        .store
        .summarize_vectors(VectorTable::Videos, version, 8);
    let summary = fixture.runtime.block_on(summary).unwrap();
    assert_eq!(summary.wrong_norm, 1, "the check before a switch");
    let fix = "`twotower update --model-path models/1 --full`";
    wait_for("word of the vector", || {
        let (status, body) = ready(&server);
        assert_eq!(status, 200, "what is held is answered from");
        reason(&body, "model").contains(fix)
    });
    assert_eq!(listed(&server, 1).0.len(), 29);
    let anew = serve_quickly(&fixture);
    let (status, body) = ready(&anew);
    assert!(
        status == 503 && reason(&body, "model").contains(fix),
        "{body}"
    );
    scale("(1 / 1.005)");
    for server in [&server, &anew] {
        wait_for("the vector", || is_well(server));
    }
}

#[test]
fn an_answer_by_likes_is_given_again_until_likes_change_and_one_by_vector_longer() {
    let fixture = Fixture::new();
    let server = serve_quickly(&fixture);
    let asked = |who: u128| {
        let (ids, body) = server
            .client
            .recommended(&token(user(who)), r#"{"limit":1}"#);
        (ids, body["cached"] == true)
    };
    let (stranger, known) = (900, 1);
    let (by_likes, by_vector) = (asked(stranger).0, asked(known).0);
    assert_eq!(asked(stranger), (by_likes.clone(), true));
    assert_eq!(asked(known), (by_vector.clone(), true));
    let favourite = video(30);
    for n in 100..120 {
        fixture.interact(InteractionKind::Like, user(n), &[favourite]);
    }
    wait_for("the new favourite", || {
        asked(stranger).0 == [favourite.to_string()]
    });
    assert_ne!(by_likes, [favourite.to_string()]);
    assert_eq!(asked(known), (by_vector, true));
}

#[test]
fn a_challenger_that_cannot_be_loaded_is_told_and_no_other_stands_in_for_it() {
    let fixture = Fixture::new();
    let (second, third) = (fixture.load(2), fixture.load(3));
    let folder = |version: i64| fixture.models().join(version.to_string());
    let hidden = fixture.models().join("hidden");
    let start = |challenger: i64| {
        let new = NewExperiment {
            control: 1,
            challenger,
            share: 0.5,
            by: "ann".into(),
            reason: "new".into(),
        };
        let started = fixture.store.start_experiment(&new);
        fixture.runtime.block_on(started).unwrap();
        let running = fixture.store.running_experiment();
        fixture.runtime.block_on(running).unwrap().unwrap()
    };
    let server = serve_quickly(&fixture);
    let told = || {
        let (status, body) = ready(&server);
        assert_eq!(status, 200, "{body}");
        assert_eq!(reason(&body, "model"), "");
        reason(&body, "experiment")
    };
    let version = |who: u128| listed(&server, who).1;

    std::fs::rename(folder(second), &hidden).unwrap();
    let experiment = start(second);
    let challenged: Vec<u128> = (1..40)
        .filter(|&n| experiment.arm(user(n)) == Arm::Challenger)
        .collect();
    wait_for("word of the folder", || !told().is_empty());
    let said = told();
    for part in [
        "experiment 1: the files of model version 2, the challenger, are missing",
        "`twotower experiment stop`",
        "users get version 1, which the experiment then compares with itself",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(version(challenged[0]), Some(1));
    std::fs::rename(&hidden, folder(second)).unwrap();
    wait_for("the challenger", || version(challenged[0]) == Some(second));
    assert_eq!(told(), "");

    // Files of the next experiment's challenger are missing: the previous challenger must not be
    // used instead.
    let stopped = fixture.store.stop_experiment();
    fixture.runtime.block_on(stopped).unwrap();
    std::fs::rename(folder(third), &hidden).unwrap();
    start(third);
    wait_for("word of the next folder", || {
        told().contains("experiment 2: the files of model version 3")
    });
    wait_for("the active version", || {
        challenged.iter().all(|&who| version(who) == Some(1))
    });
    std::fs::rename(&hidden, folder(third)).unwrap();
    wait_for("the next challenger", || {
        challenged.iter().any(|&who| version(who) == Some(third))
    });
    assert_eq!(told(), "");
    let stopped = fixture.store.stop_experiment();
    fixture.runtime.block_on(stopped).unwrap();
    wait_for("the end", || {
        challenged.iter().all(|&who| version(who) == Some(1))
    });
}
