//! Contents of a list, when it is cached, and what happens while something is missing or late.

use super::project::{Project, RECOMMENDATIONS};
use crate::serve::fixture::{VIDEOS, token, user, video};
use serde_json::{Value, json};
use std::fs;
use twotower_store::InteractionKind::Skip;

/// The fields of an answer, in order.
const FIELDS: [&str; 7] = [
    "user_id",
    "source",
    "model_version",
    "recommendations",
    "partial",
    "cached",
    "generated_at",
];

#[test]
fn a_like_counts_at_once_and_what_is_liked_does_not_come_back() {
    let project = Project::new();
    let function = project.function(RECOMMENDATIONS);
    let (first, body) = function.list(1, r#"{"limit": 5}"#);
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert!(
        FIELDS
            .iter()
            .all(|field| fields.contains(&&(*field).into()))
    );
    assert_eq!(fields.len(), FIELDS.len());
    assert_eq!(body["user_id"], json!(user(1)));
    assert_eq!(body["source"], "two_tower");
    assert_eq!(body["model_version"], project.version);
    assert_eq!(
        (&body["partial"], &body["cached"]),
        (&json!(false), &json!(false))
    );

    for _ in 0..3 {
        let (list, _) = function.list(1, r#"{"limit": 100}"#);
        project.like(1, &list[0]);
        let (after, body) = function.list(1, r#"{"limit": 100}"#);
        assert_eq!(
            (after.len(), &body["cached"]),
            (list.len() - 1, &json!(false))
        );
        assert!(!after.contains(&list[0]));
        assert_eq!(body["reason"], "catalogue_exhausted");
    }
    // Liked videos are included, and skipped ones come last.
    project.fixture.interact(Skip, user(1), &[video(30)]);
    let (all, body) = function.list(1, r#"{"limit": 100, "exclude_liked": false}"#);
    assert_eq!(all.len(), VIDEOS as usize);
    assert!(all.contains(&first[0]));
    let last = &body["recommendations"][all.len() - 1];
    assert_eq!(last["video_id"], json!(video(30)));
    assert_eq!(last["reason"], "skipped_before");
    // A blocked video is excluded too.
    let url = &project.fixture.url;
    let block = format!(
        "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{}', 'video', '{}')",
        user(1),
        all[0]
    );
    crate::support::sql(url, &block);
    let (without, _) = function.list(1, r#"{"limit": 100, "exclude_liked": false}"#);
    assert_eq!(without, all[1..]);
}

#[test]
fn the_same_answer_is_given_again_until_something_changes() {
    let project = Project::new();
    let (one, other) = (
        project.function(RECOMMENDATIONS),
        project.function(RECOMMENDATIONS),
    );
    let before = project.calls();
    let (list, first) = one.list(2, "{}");
    let (again, second) = one.list(2, "{}");
    assert_eq!((&list, &second["cached"]), (&again, &json!(true)));
    assert_eq!(first["generated_at"], second["generated_at"]);
    // Another isolate finds it in the table.
    let (elsewhere, third) = other.list(2, "{}");
    assert_eq!((&elsewhere, &third["cached"]), (&list, &json!(true)));
    assert_eq!(project.calls() - before, 3, "one call an answer");
    assert_eq!(third["generated_at"], first["generated_at"]);
    // Other queries and other users have their own cached answers.
    assert_eq!(other.list(2, r#"{"limit": 3}"#).1["cached"], false);
    assert_eq!(other.list(3, "{}").1["cached"], false);
    assert_eq!(other.list(3, "{}").1["user_id"], json!(user(3)));

    project.like(2, &list[0]);
    for function in [&one, &other] {
        let (after, body) = function.list(2, "{}");
        assert!(!after.contains(&list[0]));
        assert_eq!(body["model_version"], project.version);
    }
    wait_for("a line of an answer that was kept", || {
        one.log().iter().any(|line| line["cached"] == true)
    });
}

#[test]
fn somebody_unknown_gets_what_is_popular() {
    let project = Project::new();
    let function = project.function(RECOMMENDATIONS);
    let (list, body) = function.list(900, r#"{"limit": 3}"#);
    assert_eq!(body["source"], "popular");
    assert_eq!(list, [1, 2, 3].map(|n| video(n).to_string()));
    assert_eq!(body["recommendations"][0]["score"], 1.0);
}

#[test]
fn low_scores_can_be_left_out_and_the_answer_says_why_it_is_short() {
    let project = Project::new();
    let function = project.function(RECOMMENDATIONS);
    let (all, body) = function.list(1, r#"{"limit": 100}"#);
    let bound = &body["recommendations"][4]["score"];
    let (some, body) = function.list(1, &json!({"limit": 100, "min_score": bound}).to_string());
    assert_eq!(some, all[..5]);
    assert_eq!(body["reason"], "min_score");
    let (_, body) = function.list(1, r#"{"limit": 100, "min_score": -1}"#);
    assert_eq!(body["reason"], "catalogue_exhausted");
}

#[test]
fn the_user_tower_is_loaded_once_and_only_if_its_bytes_are_those_of_the_manifest() {
    let project = Project::new();
    let function = project.function(RECOMMENDATIONS);
    function.list(20, "{}");
    assert_eq!(project.delay(0), 0, "the database has one");
    project.without_towers_in_the_database();
    for who in 1..6 {
        function.list(who, "{}");
    }
    assert_eq!(project.delay(0), 2, "a manifest and a tower");
    let log = function.log();
    assert!(log.iter().all(|line| line["level"] == "info"), "{log:?}");
    let tower = "user_tower.safetensors";
    let place = project.bucket_folder(&project.version.to_string());
    let good = fs::read(place.join(tower)).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    for (who, what, bytes, says) in [
        (7, "one bit", &bad[..], "SHA-256"),
        (8, "cut off", &good[..100], "SHA-256"),
        (9, "another model", &good[..], "another model"),
    ] {
        fs::write(place.join(tower), bytes).unwrap();
        if what == "another model" {
            let registered = "UPDATE twotower.models SET manifest_sha256 = repeat('0', 64)";
            crate::support::sql(&project.fixture.url, registered);
        }
        let function = project.function(RECOMMENDATIONS);
        // The database computes the user's vector.
        let (list, body) = function.list(who, "{}");
        assert_eq!(body["source"], "two_tower", "{what}");
        let rows = project.rpc(user(who), "recommend_videos", &json!({}));
        assert_eq!(list, ids(&rows.json()), "{what}");
        let warned = |line: &Value| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["level"] == "warn" && reason.contains(says)
        };
        wait_for(what, || function.log().iter().any(warned));
    }
}

#[test]
fn without_weights_the_database_makes_the_vector() {
    let project = Project::without_model_files();
    project.without_towers_in_the_database();
    let function = project.function(RECOMMENDATIONS);
    let (list, body) = function.list(1, "{}");
    assert_eq!((list.len(), &body["source"]), (10, &json!("two_tower")));
    let without_key = [
        ("SUPABASE_SECRET_KEYS", ""),
        ("TWOTOWER_JWT_SECRET", crate::serve::fixture::SECRET),
    ];
    let function = project.function_with(RECOMMENDATIONS, &without_key);
    assert_eq!(function.list(2, "{}").1["source"], "two_tower");
}

/// While the database is late, an earlier popular list is served. A list based on somebody's likes
/// is not: isolates are not notified of erasures.
#[test]
fn a_late_database_gives_an_earlier_popular_list_and_nobodys_own() {
    let project = Project::new();
    let environment = [
        ("TWOTOWER_SOFT_DEADLINE_MS", "500"),
        ("TWOTOWER_JWT_SECRET", crate::serve::fixture::SECRET),
    ];
    let function = project.function_with(RECOMMENDATIONS, &environment);
    let (popular, _) = function.list(900, "{}");
    for who in [1, 3] {
        assert_eq!(function.list(who, "{}").1["source"], "two_tower");
    }
    let erased = project.rpc(user(3), "erase_me", &json!({}));
    assert_eq!(erased.status, 200, "{}", erased.text);
    project.delay(1500);
    let (late, body) = function.list(900, "{}");
    assert_eq!(late, popular);
    assert_eq!(body["source"], "popular");
    assert_eq!(
        (&body["partial"], &body["cached"]),
        (&json!(true), &json!(true))
    );
    // The others wait for their own list, or until it is certain that there is none.
    let (_, body) = function.list(1, "{}");
    assert_eq!(
        (&body["partial"], &body["source"]),
        (&json!(false), &json!("two_tower"))
    );
    assert_eq!(function.post(&token(user(3)), "{}").error().0, 401);
    project.delay(0);
    let (_, body) = function.list(900, "{}");
    assert_eq!(body["partial"], false);
}

/// Without a tower in the database and an answer in the table, the answer is cached after it was
/// given.
#[test]
fn without_a_tower_in_the_database_answers_are_kept_all_the_same() {
    let project = Project::new();
    project.without_towers_in_the_database();
    let (one, other) = (
        project.function(RECOMMENDATIONS),
        project.function(RECOMMENDATIONS),
    );
    let (list, first) = one.list(2, "{}");
    assert_eq!(first["cached"], false);
    let kept = || {
        let count = "SELECT count(*) FROM recommendation_cache";
        crate::support::sql(&project.fixture.url, count)
    };
    wait_for("the answer in the table", || kept() == "1");
    let before = project.calls();
    for function in [&one, &one, &other] {
        let (again, body) = function.list(2, "{}");
        assert_eq!((&again, &body["cached"]), (&list, &json!(true)));
    }
    assert_eq!(project.calls() - before, 3, "one call an answer");
    // A cached list with a deleted video is not used.
    let gone = format!("DELETE FROM videos WHERE id = '{}'", list[1]);
    crate::support::sql(&project.fixture.url, &gone);
    let (others, body) = one.list(2, "{}");
    assert!(!others.contains(&list[1]) && body["cached"] == false);
    project.like(2, &others[0]);
    let (after, body) = other.list(2, "{}");
    assert!(!after.contains(&others[0]) && body["cached"] == false);
}

/// A user's vector belongs to one version; it is useless if another version is active when the list
/// is requested.
#[test]
fn vectors_of_two_versions_never_meet() {
    let project = Project::new();
    let other = project.fixture.load(2);
    project.without_towers_in_the_database();
    let environment = [
        ("TWOTOWER_SOFT_DEADLINE_MS", "20000"),
        ("TWOTOWER_JWT_SECRET", crate::serve::fixture::SECRET),
    ];
    let function = project.function_with(RECOMMENDATIONS, &environment);
    assert_eq!(function.list(1, "{}").1["model_version"], project.version);
    // The database says that it has no tower, then the context is read, then the list is requested.
    // Each call is answered after the delay; the version changes before the last answer.
    project.delay(2000);
    let before = project.calls();
    let (list, body) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| function.list(2, "{}"));
        wait_for("the third call", || project.calls() - before == 3);
        project.fixture.activate(other);
        asked.join().unwrap()
    });
    project.delay(0);
    assert_eq!(
        (&body["model_version"], &body["source"]),
        (&json!(other), &json!("two_tower"))
    );
    let rows = project.rpc(user(2), "recommend_videos", &json!({}));
    assert_eq!(list, ids(&rows.json()));
}

fn ids(rows: &Value) -> Vec<String> {
    let id = |row: &Value| row["video_id"].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(id).collect()
}

#[test]
fn requests_that_are_wrong_are_told_what_is() {
    let project = Project::new();
    let function = project.function(RECOMMENDATIONS);
    let mine = token(user(1));
    for (body, word) in [
        ("{", "JSON"),
        ("[]", "object"),
        (r#"{"limit": 0}"#, "`limit`"),
        (r#"{"user_id": "x"}"#, "`user_id`"),
        (r#"{"diversity": 0.5}"#, "twotower serve"),
    ] {
        let (status, code, message) = function.post(&mine, body).error();
        assert_eq!((status, code.as_str()), (400, "invalid_request"));
        assert!(message.contains(word), "{message}");
    }
    let large = format!(r#"{{"junk": "{}"}}"#, "x".repeat(64 * 1024));
    assert_eq!(function.post(&mine, &large).error().0, 413);
    assert_eq!(function.client.get("/", &[]).error().0, 405);
}

/// A log line consists of listed fields, none of which identifies a person.
#[test]
fn the_log_says_nothing_of_anybody() {
    let project = Project::new();
    let function = project.function(RECOMMENDATIONS);
    let (list, body) = function.list(1, "{}");
    let mine = token(user(1));
    function.post(&mine, r#"{"canary_field": "canary"}"#);
    function.post(&format!("{mine}canary"), "{}");
    project.rpc(user(1), "erase_me", &json!({}));
    function.post(&mine, "{}");
    // A line is written after its answer.
    wait_for("a line of each request", || function.log().len() >= 4);
    let lines = function.log();
    let text = serde_json::to_string(&lines).unwrap();
    let title = body["recommendations"][0]["title"].as_str().unwrap();
    let (user, signature) = (user(1).to_string(), mine.rsplit('.').next().unwrap());
    for canary in [&user, &list[0], title, signature, "canary", "sb_", "eyJ"] {
        assert!(!text.contains(canary), "{canary}: {text}");
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed().as_secs() < 30, "waited in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
