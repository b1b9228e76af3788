//! The context for an Edge Function, and the answers that it caches.

use super::functions::circle;
use super::person::{ANN, BOB, Person, video};
use super::stand_in::Place;
use super::user_tower::mean_tower;
use crate::database::{execute, few_connections};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use twotower_store::Store;

/// Decodes numbers from Base64.
pub(super) fn decoded(value: &Value) -> Vec<f32> {
    let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    let numbers = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_be_bytes(bytes.try_into().unwrap()));
    numbers.collect()
}

#[tokio::test]
async fn vectors_come_oldest_first_and_only_to_who_needs_them() {
    for place in Place::ALL {
        let url = circle(place).await;
        let mut ann = Person::user(&url, ANN).await;
        let context = ann.value("recommendation_context()").await.unwrap();
        assert_eq!(
            (&context["model_version"], &context["dim"]),
            (&json!(7), &json!(2))
        );
        assert_eq!(
            (&context["erased"], &context["cached"]),
            (&json!(false), &Value::Null)
        );
        let angle = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let expected = [angle(30.0), angle(60.0)].concat();
        for (found, expected) in decoded(&context["likes"]).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
        assert_eq!(decoded(&context["likes"]).len(), 4);
        assert_eq!(decoded(&context["skips"]).len(), 2);
        let known = format!(
            "recommendation_context(NULL, '{}')",
            context["state"].as_str().unwrap()
        );
        let again = ann.value(&known).await.unwrap();
        assert_eq!(again["state"], context["state"]);
        assert_eq!(
            (&again["likes"], &again["skips"]),
            (&Value::Null, &Value::Null)
        );
        // A user without any data has no vectors, and that is reported.
        let mut bob = Person::user(&url, BOB).await;
        let nothing = bob.value("recommendation_context()").await.unwrap();
        assert_eq!(
            (&nothing["likes"], &nothing["skips"]),
            (&json!(""), &json!(""))
        );
    }
}

/// Base64 longer than one line. Likes without a vector, here the latest ones, do not count.
#[tokio::test]
async fn long_histories_are_one_line_and_end_at_ten_thousand() {
    let url = circle(Place::Plain).await;
    execute(
        &url,
        &format!(
            "INSERT INTO videos (id) SELECT ('00000000-0000-4000-8001-' || lpad(to_hex(n), 12, '0'))::uuid FROM generate_series(1, 10500) AS n;
             CREATE TEMP TABLE liked AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM videos WHERE id > '{}';
             INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint)
             SELECT id, 7, CASE WHEN n <= 400 THEN '[0, 1]' ELSE '[1, 0]' END::vector, 0 FROM liked WHERE n <= 10400;
             INSERT INTO likes (user_id, video_id, created_at) SELECT '{BOB}', id, now() + n * interval '1 second' FROM liked",
            video(0xffff)
        ),
    )
    .await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    store.write_user_tower(7, &mean_tower()).await.unwrap();
    let mut bob = Person::user(&url, BOB).await;
    let context = bob.value("recommendation_context()").await.unwrap();
    let likes = decoded(&context["likes"]);
    assert!(likes == [1.0, 0.0].repeat(10_000), "{}", likes.len());
    let across = bob.value("(SELECT vector[2] FROM twotower.user_vector(7))");
    assert!(across.await.unwrap().as_f64().unwrap() < 1e-6);
    let rows = bob
        .rows("SELECT * FROM recommend_videos(100)")
        .await
        .unwrap();
    assert_eq!(
        rows.len(),
        11,
        "all but what they like and what has no vector"
    );
}

/// 1,280 vectors of 2,000 numbers are as many numbers as 10,000 of 256.
#[tokio::test]
async fn wide_vectors_are_fewer() {
    let url = circle(Place::Plain).await;
    execute(
        &url,
        &format!(
            "UPDATE twotower.models SET embedding_dim = 2000 WHERE version = 6; UPDATE twotower.active_model SET version = 6;
             INSERT INTO videos (id) SELECT ('00000000-0000-4000-8001-' || lpad(to_hex(n), 12, '0'))::uuid FROM generate_series(1, 1300) AS n;
             INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint)
             SELECT id, 6, array_fill(0, ARRAY[1999]) || 1, 0 FROM videos WHERE id > '{wide}';
             INSERT INTO likes (user_id, video_id) SELECT '{BOB}', id FROM videos WHERE id > '{wide}'",
            wide = video(0xffff)
        ),
    )
    .await;
    let mut bob = Person::user(&url, BOB).await;
    let context = bob.value("recommendation_context()").await.unwrap();
    assert_eq!(decoded(&context["likes"]).len(), 1000 * 2000);
}

/// With it a function checks that the model in its bucket matches the vectors here.
#[tokio::test]
async fn the_model_is_named_by_its_manifest() {
    let url = circle(Place::Supabase).await;
    execute(
        &url,
        "UPDATE twotower.models SET manifest_sha256 = 'of ' || version",
    )
    .await;
    let mut ann = Person::user(&url, ANN).await;
    let context = ann.value("recommendation_context()").await.unwrap();
    assert_eq!(context["manifest_sha256"], "of 7");
    execute(&url, "DELETE FROM twotower.active_model").await;
    let context = ann.value("recommendation_context()").await.unwrap();
    assert_eq!(context["manifest_sha256"], Value::Null);
}

#[tokio::test]
async fn an_answer_is_given_again_while_nothing_changed() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let state = |context: &Value| context["state"].as_str().unwrap().to_owned();
    let context = ann.value("recommendation_context('ten')").await.unwrap();
    let keep = format!(
        r#"keep_recommendations('ten', '{}', '{{"recommendations": [1]}}')::text"#,
        state(&context)
    );
    ann.value(&keep).await.unwrap();
    let cached = ann.value("recommendation_context('ten')").await.unwrap();
    assert_eq!(cached["cached"]["answer"], json!({"recommendations": [1]}));
    assert_eq!(cached["likes"], Value::Null);
    assert_eq!(
        ann.value("recommendation_context('five')").await.unwrap()["cached"],
        Value::Null
    );

    let mut states = vec![state(&context)];
    for change in [
        format!("like_video('{}')", video(4)),
        format!("like_video('{}', false)", video(1)),
    ] {
        ann.value(&change).await.unwrap();
        let changed = ann.value("recommendation_context('ten')").await.unwrap();
        assert_eq!(changed["cached"], Value::Null, "{change}");
        states.push(state(&changed));
    }
    for change in [
        format!("DELETE FROM skips WHERE user_id = '{ANN}'"),
        format!(
            "INSERT INTO skips (user_id, video_id) VALUES ('{ANN}', '{}')",
            video(1)
        ),
        format!(
            "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{ANN}', 'tag', 'quiet')"
        ),
    ] {
        ann.run(&change).await.unwrap();
        states.push(state(
            &ann.value("recommendation_context('ten')").await.unwrap(),
        ));
    }
    execute(&url, "UPDATE twotower.active_model SET version = 6").await;
    states.push(state(
        &ann.value("recommendation_context('ten')").await.unwrap(),
    ));
    let number = states.len();
    states.sort();
    states.dedup();
    assert_eq!(states.len(), number, "each is another state");
}

#[tokio::test]
async fn answers_grow_old_and_few_are_kept() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let context = ann.value("recommendation_context()").await.unwrap();
    let state = context["state"].as_str().unwrap();
    for n in 0..20 {
        let keep = format!("keep_recommendations('key {n}', '{state}', '{{}}')::text");
        ann.value(&keep).await.unwrap();
    }
    let keys = ann
        .rows("SELECT cache_key FROM recommendation_cache ORDER BY made_at")
        .await
        .unwrap();
    assert_eq!(keys.len(), 16);
    assert_eq!(keys[0]["cache_key"], "key 4");
    execute(
        &url,
        "UPDATE recommendation_cache SET made_at = now() - interval '5 minutes 1 second'",
    )
    .await;
    assert_eq!(
        ann.value("recommendation_context('key 19')").await.unwrap()["cached"],
        Value::Null
    );
    let long = "x".repeat(201);
    let huge = "x".repeat(65_536);
    for call in [
        format!("keep_recommendations('{long}', 'state', '{{}}')"),
        "keep_recommendations('', 'state', '{}')".into(),
        "keep_recommendations('key', NULL, '{}')".into(),
        format!("keep_recommendations('key', 'state', '\"{huge}\"')"),
        "keep_recommendations('key', 'state', NULL)".into(),
    ] {
        assert_eq!(ann.refused(&format!("SELECT {call}")).await.0, "22023");
    }
    // Only the function writes: it counts.
    let insert = format!(
        "INSERT INTO recommendation_cache (user_id, cache_key, state, answer) VALUES ('{ANN}', 'k', 's', '{{}}')"
    );
    assert!(ann.run(&insert).await.is_err());
}
