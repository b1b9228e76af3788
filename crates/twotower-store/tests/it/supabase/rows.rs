//! Visible rows: only one's own, in every table of the catalogue and through every function.

use super::functions::{circle, encoded};
use super::person::{ANN, BOB, Person, video};
use super::stand_in::{Place, as_superuser};
use super::user_tower::mean_tower;
use crate::database::few_connections;
use serde_json::{Value, json};
use twotower_store::Store;
use uuid::Uuid;

/// Values that only Ann's rows hold, and no statement of others.
pub(super) const SECRETS: [&str; 7] = [
    "\"user_id\":\"aaaaaaaa-0000-4000-8000-000000000000\"",
    "blocked-5d1c0b",
    "answered-77e2aa",
    "requested-90ab1c",
    "03:04:05.678901",
    "[0.28,0.96]",
    // The same vector as Base64.
    "Po9cKT91wo8=",
];

/// The circle, with rows of Ann's and Bob's in every table that has a user.
pub(super) async fn two_users(place: Place) -> String {
    let url = circle(place).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    store.write_user_tower(7, &mean_tower()).await.unwrap();
    store.close().await;
    let vector = encoded(&[0.28, 0.96]);
    assert_eq!(vector, SECRETS[6]);
    let mut owner = Person::owner(&url).await;
    owner
        .run(&format!(
            r#"UPDATE likes SET created_at = '2026-01-02 03:04:05.678901' WHERE user_id = '{ANN}';
             INSERT INTO likes VALUES ('{BOB}', '{five}', '2026-01-03');
             INSERT INTO skips VALUES ('{BOB}', '{six}', '2026-01-03');
             INSERT INTO recommendation_blocks (user_id, kind, value) VALUES
                 ('{ANN}', 'tag', 'blocked-5d1c0b'), ('{ANN}', 'tag', 'tagged'), ('{BOB}', 'tag', 'bob');
             INSERT INTO recommendation_cache (user_id, cache_key, state, answer) VALUES
                 ('{ANN}', 'key', 'state', '"answered-77e2aa"'), ('{BOB}', 'key', 'state', '"bob"');
             INSERT INTO user_embeddings (user_id, model_version, embedding, fingerprint) VALUES
                 ('{ANN}', 7, '[0.28, 0.96]', 0), ('{BOB}', 7, '[0.6, 0.8]', 0);
             INSERT INTO twotower.events (user_id, event_id, kind, video_id, request_id, at) VALUES
                 ('{ANN}', gen_random_uuid(), 'view', '{five}', 'requested-90ab1c', '2026-01-02 03:04:05.678901'),
                 ('{BOB}', gen_random_uuid(), 'view', '{five}', 'bob', now())"#,
            five = video(5),
            six = video(6),
        ))
        .await
        .unwrap();
    url
}

/// Panics if a text contains what only Ann may see.
pub(super) fn assert_no_secret(text: &str, statement: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{statement}: {text}");
    }
}

const TABLES: &str = "
    SELECT format('%I.%I', nspname, relname) AS name, EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'user_id' AND NOT attisdropped
    ) AS personal
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE nspname IN ('public', 'twotower', 'supabase_migrations') AND relkind IN ('r', 'p', 'v', 'm', 'f')";

#[tokio::test]
async fn everybody_sees_their_own_rows_in_every_table() {
    for place in [Place::Supabase, Place::OlderSupabase] {
        let url = as_superuser(&two_users(place).await);
        let mut owner = Person::owner(&url).await;
        let mut anonymous = Person::anonymous(&url).await;
        let mut nobody = Person::with_claims(&url, "authenticated", &json!({})).await;
        let users: [Uuid; 2] = [ANN, BOB];
        for table in owner.rows(TABLES).await.unwrap() {
            let name = table["name"].as_str().unwrap();
            let all = format!("SELECT * FROM {name}");
            assert_eq!(anonymous.refused(&all).await.0, "42501", "{name}");
            if table["personal"] == false {
                continue;
            }
            for user in users {
                let there = format!("SELECT FROM {name} WHERE user_id = '{user}'");
                assert!(
                    !owner.rows(&there).await.unwrap().is_empty(),
                    "{name} has no row of {user}"
                );
                let mut person = Person::user(&url, user).await;
                // Tables that may not be read show nothing either.
                let Ok(rows) = person.rows(&all).await else {
                    continue;
                };
                assert!(!rows.is_empty(), "{name}");
                let own = |row: &Value| row["user_id"] == user.to_string();
                assert!(rows.iter().all(own), "{name}: {rows:?}");
            }
            if let Ok(rows) = nobody.rows(&all).await {
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_function_tells_of_somebody_else() {
    let url = two_users(Place::Supabase).await;
    let mut bob = Person::user(&url, BOB).await;
    for call in [
        "recommend_videos(100)",
        "recommend_videos(100, false)",
        "similar_videos('00000000-0000-4000-8000-000000000001', 100)",
        "recommendation_context('key', 'state')",
        "recommendation_context('key')",
        "recommendation_answer(100)",
        "recommendation_answer(100, false, known_state => 'state')",
        "twotower.present_answer(100, true, NULL, 'key', 'state')",
        "twotower.user_vector(7)",
        "twotower.caller_state(7)",
        "twotower.caller_blocks()",
        "twotower.caller_vector(7, 2)",
        "twotower.blended_vector(7, 2)",
        "twotower.popular_videos()",
        "twotower.active_version()",
        "twotower.manifest_sha256(7)",
        "twotower.caller()",
        "twotower.caller_is_erased()",
    ] {
        let rows = bob.rows(&format!("SELECT * FROM {call}")).await.unwrap();
        assert!(!rows.is_empty(), "{call}");
        assert_no_secret(&Value::from(rows).to_string(), call);
    }
    // Ann's likes and blocks do not affect what Bob sees.
    let rows = bob
        .rows("SELECT * FROM recommend_videos(100)")
        .await
        .unwrap();
    assert_eq!(rows.len(), 10);
    for call in [
        "twotower.user_state('aaaaaaaa-0000-4000-8000-000000000000', 10)",
        "twotower.erase_user('aaaaaaaa-0000-4000-8000-000000000000')",
        "twotower.user_change_key('aaaaaaaa-0000-4000-8000-000000000000')",
        "write_user_embedding('aaaaaaaa-0000-4000-8000-000000000000', 7, '')",
        "twotower.refresh_statistics()",
        "twotower.build_vector_index(7)",
    ] {
        assert_eq!(
            bob.refused(&format!("SELECT * FROM {call}")).await.0,
            "42501",
            "{call}"
        );
    }
}
