//! A whole answer in one call: computed, cached, and under which state.

use super::functions::circle;
use super::person::{ANN, BOB, Person, video};
use super::stand_in::Place;
use super::user_tower::mean_tower;
use crate::database::{execute, few_connections};
use serde_json::{Value, json};
use twotower_store::Store;

/// The circle, and a user tower.
async fn circle_with_tower(place: Place) -> String {
    let url = circle(place).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    store.write_user_tower(7, &mean_tower()).await.unwrap();
    store.close().await;
    url
}

async fn answered(person: &mut Person, arguments: &str) -> Value {
    let call = format!("recommendation_answer({arguments})");
    person.value(&call).await.unwrap()
}

#[tokio::test]
async fn an_answer_is_made_of_the_state_that_the_context_names() {
    for place in Place::ALL {
        let url = circle_with_tower(place).await;
        let mut ann = Person::user(&url, ANN).await;
        let context = ann.value("recommendation_context()").await.unwrap();
        let rows = ann
            .rows("SELECT * FROM recommend_videos(100)")
            .await
            .unwrap();
        let made = answered(&mut ann, "100").await;
        assert_eq!(made["outcome"], "made");
        // It also names the answer.
        let state = made["state"].as_str().unwrap().split_once('-');
        assert_eq!(state.unwrap().0, context["state"]);
        let answer = &made["answer"];
        assert_eq!(answer["user_id"], json!(ANN));
        assert_eq!(answer["source"], "two_tower");
        assert_eq!(answer["model_version"], 7);
        assert_eq!(
            (&answer["partial"], &answer["cached"]),
            (&json!(false), &json!(false))
        );
        let at = answer["generated_at"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
        assert_eq!(answer["reason"], "catalogue_exhausted");
        let list = answer["recommendations"].as_array().unwrap();
        assert_eq!(list.len(), rows.len());
        for (one, row) in list.iter().zip(&rows) {
            for field in ["video_id", "title", "score"] {
                assert_eq!(one[field], row[field]);
            }
            assert_eq!(
                one["reason"] == "skipped_before",
                row["skipped_before"] == true
            );
        }
        assert_eq!(list.last().unwrap()["reason"], "skipped_before");
    }
}

#[tokio::test]
async fn an_answer_is_kept_until_something_changes_or_five_minutes_are_over() {
    let url = circle_with_tower(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let made = answered(&mut ann, "3").await;
    let kept = answered(&mut ann, "3").await;
    assert_eq!(kept["outcome"], "kept");
    assert_eq!(
        (&kept["answer"], &kept["state"]),
        (&made["answer"], &made["state"])
    );
    // A client that has the answer already need not receive it again.
    let known = format!("3, known_state => '{}'", made["state"].as_str().unwrap());
    let unchanged = answered(&mut ann, &known).await;
    assert_eq!(
        (&unchanged["outcome"], &unchanged["answer"]),
        (&json!("unchanged"), &Value::Null)
    );
    // Another question and another user have their own answers.
    for other in ["4", "3, false", "3, min_score => 0.5"] {
        assert_eq!(
            answered(&mut ann, other).await["outcome"],
            "made",
            "{other}"
        );
        assert_eq!(
            answered(&mut ann, other).await["outcome"],
            "kept",
            "{other}"
        );
    }
    let mut bob = Person::user(&url, BOB).await;
    let of_bob = answered(&mut bob, "3").await;
    assert_eq!(of_bob["outcome"], "made");
    assert_eq!(of_bob["answer"]["source"], "popular");

    for change in [
        format!("like_video('{}')", video(4)),
        format!("like_video('{}', false)", video(1)),
    ] {
        ann.value(&change).await.unwrap();
        for arguments in ["3", known.as_str()] {
            ann.run("DELETE FROM recommendation_cache").await.unwrap();
            let changed = answered(&mut ann, arguments).await;
            assert_eq!(changed["outcome"], "made", "{change}");
            assert_ne!(changed["state"], made["state"]);
        }
    }
    let block = format!(
        "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{ANN}', 'tag', 'tagged')"
    );
    ann.run(&block).await.unwrap();
    assert_eq!(answered(&mut ann, "3").await["outcome"], "made");
    execute(
        &url,
        "UPDATE recommendation_cache SET made_at = now() - interval '5 minutes 1 second'",
    )
    .await;
    assert_eq!(answered(&mut ann, "3").await["outcome"], "made");
}

/// Lists depend on every skip, however many there are.
#[tokio::test]
async fn an_answer_is_not_kept_when_an_old_skip_is_taken_back() {
    let url = circle_with_tower(Place::Plain).await;
    execute(
        &url,
        &format!(
            "INSERT INTO videos (id, title) SELECT ('00000000-0000-4000-8001-' || lpad(to_hex(n), 12, '0'))::uuid, 'more'
             FROM generate_series(1, 1001) AS n;
             INSERT INTO skips SELECT '{ANN}', id, now() - interval '1 hour' FROM videos WHERE title = 'more'"
        ),
    )
    .await;
    let mut ann = Person::user(&url, ANN).await;
    let made = answered(&mut ann, "3").await;
    assert_eq!(answered(&mut ann, "3").await["outcome"], "kept");
    let oldest = "DELETE FROM skips WHERE video_id = '00000000-0000-4000-8001-000000000001'";
    ann.run(oldest).await.unwrap();
    let changed = answered(&mut ann, "3").await;
    assert_eq!(changed["outcome"], "made");
    assert_ne!(changed["state"], made["state"]);
}

/// Videos that were removed, hidden or blocked since are not returned again; the cached answer is
/// then another one.
#[tokio::test]
async fn an_answer_is_kept_while_all_of_it_is_there() {
    let url = circle_with_tower(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let blocks = format!(
        "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{ANN}', 'tag', 'quiet'), ('{ANN}', 'maker', 'Made up')"
    );
    for (no, change) in [
        "DELETE FROM videos WHERE id = '{}'",
        "CREATE POLICY hidden ON videos AS RESTRICTIVE FOR SELECT TO authenticated USING (id <> '{}')",
        "INSERT INTO video_tags SELECT '{}', id FROM tags WHERE name = 'quiet'",
        "UPDATE videos SET maker = E'Made up\n' WHERE id = '{}'",
    ]
    .into_iter()
    .enumerate()
    {
        if no == 2 {
            ann.run(&blocks).await.unwrap();
        }
        let (made, context) = (
            answered(&mut ann, "3").await,
            "recommendation_context('answer 3 t')",
        );
        let known = format!("3, known_state => '{}'", made["state"].as_str().unwrap());
        assert_eq!(answered(&mut ann, &known).await["outcome"], "unchanged");
        let kept = ann.value(context).await.unwrap();
        assert_eq!(kept["cached"]["answer"], made["answer"]);

        let gone = made["answer"]["recommendations"][1]["video_id"].as_str().unwrap();
        execute(&url, &change.replace("{}", gone)).await;
        // Nor to a client that knows the state, and would get vectors instead.
        let again = context.replace(')', &format!(", '{}')", kept["state"].as_str().unwrap()));
        let again = ann.value(&again).await.unwrap();
        assert_eq!((&again["state"], &again["cached"]), (&kept["state"], &Value::Null));
        assert!(again["likes"].is_string());
        let others = answered(&mut ann, "3").await;
        assert_eq!(others["outcome"], "made", "{change}");
        assert!(!others["answer"].to_string().contains(gone), "{change}");
        // Another answer was cached for this state meanwhile: a client with the first one receives
        // it.
        let other = answered(&mut ann, &known).await;
        assert_eq!((&other["outcome"], &other["answer"]), (&json!("kept"), &others["answer"]));
    }
    // Other content in the cache is up to its owner.
    for (answer, outcome) in [
        (r#"{"recommendations": [{"video_id": "no id"}]}"#, "made"),
        (r#"{"recommendations": [{"video_id": 1}]}"#, "made"),
        ("[]", "made"),
        (r#"{"recommendations": [1]}"#, "kept"),
    ] {
        let state = answered(&mut ann, "3").await["state"]
            .as_str()
            .unwrap()
            .to_owned();
        let (state, _) = state.split_once('-').unwrap();
        let keep = format!("keep_recommendations('answer 3 t', '{state}', '{answer}')::text");
        ann.value(&keep).await.unwrap();
        assert_eq!(
            answered(&mut ann, "3").await["outcome"],
            outcome,
            "{answer}"
        );
    }
}

/// Only an answer may be lost, but no earlier write of the caller.
#[tokio::test]
async fn what_the_caller_writes_besides_is_as_durable_as_ever() {
    let url = circle_with_tower(Place::Plain).await;
    let mut ann = Person::user(&url, ANN).await;
    ann.run("SET synchronous_commit = on").await.unwrap();
    let like = format!(
        "INSERT INTO likes (user_id, video_id) VALUES ('{ANN}', '{}')",
        video(9)
    );
    for (before, setting) in [("SELECT 1", "off"), (&like, "on")] {
        ann.run(&format!("BEGIN; {before}")).await.unwrap();
        assert_eq!(answered(&mut ann, "3").await["outcome"], "made");
        let found = ann.value("current_setting('synchronous_commit')").await;
        assert_eq!(found.unwrap(), setting, "{before}");
        ann.run("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_short_answer_says_why() {
    let url = circle_with_tower(Place::Plain).await;
    let mut ann = Person::user(&url, ANN).await;
    let all = answered(&mut ann, "100").await;
    let bound = &all["answer"]["recommendations"][2]["score"];
    let some = answered(&mut ann, &format!("100, min_score => {bound}")).await;
    assert_eq!(some["answer"]["reason"], "min_score");
    let none = answered(&mut ann, "100, min_score => 2").await;
    assert_eq!(none["answer"]["recommendations"], json!([]));
    assert_eq!(none["answer"]["reason"], "min_score");
    let every = answered(&mut ann, "100, min_score => -2").await;
    assert_eq!(every["answer"]["reason"], "catalogue_exhausted");
    assert_eq!(
        answered(&mut ann, "1").await["answer"]["reason"],
        Value::Null
    );
    let refused = ann.refused("SELECT recommendation_answer(0)").await;
    assert_eq!(refused.0, "22023");
}

#[tokio::test]
async fn without_a_tower_it_says_so_and_without_a_model_there_is_what_is_popular() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let none = answered(&mut ann, "3").await;
    assert_eq!(
        (&none["outcome"], &none["answer"]),
        (&json!("no_tower"), &Value::Null)
    );
    assert!(none["state"].is_string());
    execute(&url, "DELETE FROM twotower.active_model").await;
    let popular = answered(&mut ann, "3").await;
    assert_eq!(popular["outcome"], "made");
    assert_eq!(popular["answer"]["source"], "popular");
    assert_eq!(popular["answer"]["model_version"], Value::Null);
}

#[tokio::test]
async fn who_may_not_be_answered_is_not_and_what_cannot_be_kept_is_answered_all_the_same() {
    let url = circle_with_tower(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let kept = "(SELECT count(*) FROM recommendation_cache)";
    // On a replica, and larger than a row can hold.
    ann.run("BEGIN READ ONLY").await.unwrap();
    assert_eq!(answered(&mut ann, "2").await["outcome"], "made");
    ann.run("COMMIT").await.unwrap();
    execute(&url, "UPDATE videos SET title = repeat('x', 70000)").await;
    assert_eq!(answered(&mut ann, "2").await["outcome"], "made");
    assert_eq!(ann.value(kept).await.unwrap(), 0);
    // While a user is erased.
    execute(&url, "UPDATE videos SET title = 'short'").await;
    let mut owner = Person::owner(&url).await;
    owner.run("BEGIN").await.unwrap();
    owner
        .value(&format!(
            "(SELECT number FROM twotower.erase_user('{BOB}'))"
        ))
        .await
        .unwrap();
    assert_eq!(answered(&mut ann, "2").await["outcome"], "made");
    assert_eq!(ann.value(kept).await.unwrap(), 0);
    owner.run("COMMIT").await.unwrap();
    let mut bob = Person::user(&url, BOB).await;
    let erased = answered(&mut bob, "2").await;
    assert_eq!(
        (&erased["outcome"], &erased["answer"]),
        (&json!("erased"), &Value::Null)
    );
    let mut nobody =
        Person::with_claims(&url, "authenticated", &json!({"role": "authenticated"})).await;
    let call = "SELECT recommendation_answer()";
    assert_eq!(nobody.refused(call).await.0, "PT401");
    assert_eq!(Person::anonymous(&url).await.refused(call).await.0, "42501");
}
