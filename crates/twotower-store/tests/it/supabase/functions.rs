//! Answers of the functions: lists, likes, erasures, vectors.

use super::person::{ANN, BOB, Person, video};
use super::stand_in::Place;
use crate::database::{execute, few_connections};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::f32::consts::FRAC_1_SQRT_2;
use twotower_store::{IndexPlan, Store};
use uuid::Uuid;

/// Twelve videos around a circle, video n at n · 30°, of which 11 has no vector; version 7 is
/// active, version 6 is not. Ann likes 1 and 2 and has skipped 3; Bob has no data; another user
/// likes 9 and 10.
pub(super) async fn circle(place: Place) -> String {
    let url = place.migrated().await;
    fill_circle(&url).await;
    url
}

/// The same in a database whose tables may be the application's own.
pub(super) async fn fill_circle(url: &str) {
    execute(
        url,
        &format!(
            "INSERT INTO videos (id, title, genre, maker)
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'video ' || n, 'genre ' || n % 2, 'maker ' || n % 3
             FROM generate_series(1, 12) AS n;
             INSERT INTO tags (id, name) VALUES ('{ANN}', 'tagged'), ('{BOB}', 'quiet'); INSERT INTO performers (id, name) VALUES ('{ANN}', 'P');
             INSERT INTO video_tags SELECT id, '{ANN}' FROM videos WHERE title IN ('video 4', 'video 6');
             INSERT INTO video_performers SELECT id, '{ANN}' FROM videos WHERE title = 'video 5';
             INSERT INTO twotower.models (version, state, embedding_dim, snapshot_sha256, hyperparameters, metrics, manifest_sha256)
             VALUES (6, 'retired', 2, '', '{{}}', '{{}}', ''), (7, 'active', 2, '', '{{}}', '{{}}', '');
             INSERT INTO twotower.active_model (version) VALUES (7);
             INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint)
             SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, version,
                    ARRAY[cosd(sign * 30 * n), sind(sign * 30 * n)], 0
             FROM generate_series(1, 12) AS n, (VALUES (6, -1), (7, 1)) AS of (version, sign) WHERE n <> 11;
             INSERT INTO likes VALUES ('{ANN}', '{one}', now() - interval '3 minutes'), ('{ANN}', '{two}', now() - interval '2 minutes');
             INSERT INTO likes (user_id, video_id) VALUES ('{other}', '{nine}'), ('{other}', '{ten}'), ('{third}', '{nine}');
             INSERT INTO skips VALUES ('{ANN}', '{three}', now() - interval '1 minute');
             SELECT twotower.refresh_statistics()",
            one = video(1),
            two = video(2),
            three = video(3),
            nine = video(9),
            ten = video(10),
            other = Uuid::from_u128(1),
            third = Uuid::from_u128(2),
        ),
    )
    .await;
}

/// Base64 in the form that the functions accept.
pub(super) fn encoded(vector: &[f32]) -> String {
    STANDARD.encode(
        vector
            .iter()
            .flat_map(|x| x.to_be_bytes())
            .collect::<Vec<u8>>(),
    )
}

/// Numbers of videos.
pub(super) fn ids(rows: &[Value]) -> Vec<u128> {
    let id = |row: &Value| row["video_id"].as_str().unwrap().parse::<Uuid>().unwrap();
    rows.iter().map(|row| id(row).as_u128() & 0xffff).collect()
}

#[tokio::test]
async fn a_vector_orders_what_is_neither_liked_nor_skipped() {
    for place in Place::ALL {
        let url = circle(place).await;
        let mut ann = Person::user(&url, ANN).await;
        let query = encoded(&[1.0, 0.0]);
        let rows = ann
            .rows(&format!(
                "SELECT * FROM recommend_videos(100, query => '{query}')"
            ))
            .await
            .unwrap();
        // 0°, −60°, −90°, then pairs at equal distance; the skipped one is last, 1 and 2 are liked,
        // 11 has no vector.
        assert_eq!(ids(&rows), [12, 10, 9, 4, 8, 5, 7, 6, 3]);
        assert_eq!(
            rows[0],
            json!({"video_id": video(12), "title": "video 12", "score": 1, "source": "two_tower", "skipped_before": false,
                   "model_version": 7})
        );
        assert_eq!(rows.last().unwrap()["skipped_before"], true);
        let with_liked = format!("SELECT * FROM recommend_videos(3, false, query => '{query}')");
        assert_eq!(ids(&ann.rows(&with_liked).await.unwrap()), [12, 1, 2]);
        let good =
            format!("SELECT * FROM recommend_videos(100, min_score => 0.4, query => '{query}')");
        assert_eq!(ids(&ann.rows(&good).await.unwrap()), [12, 10]);
    }
}

#[tokio::test]
async fn blocks_of_every_kind_hold() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let all = format!(
        "SELECT * FROM recommend_videos(100, query => '{}')",
        encoded(&[1.0, 0.0])
    );
    let popular = "SELECT * FROM similar_videos('00000000-0000-4000-8000-00000000000b', 100)";
    for (kind, value, gone) in [
        ("video", video(12).to_string(), vec![12]),
        ("video", "no id".into(), vec![]),
        // Each spelling of a UUID.
        ("video", video(12).simple().to_string(), vec![12]),
        ("video", video(12).braced().to_string(), vec![12]),
        (
            "video",
            video(12).urn().to_string().to_uppercase(),
            vec![12],
        ),
        (
            "video",
            "00000000000040008000-00000000000c".into(),
            vec![12],
        ),
        ("video", format!(" {}", video(12)), vec![]),
        ("tag", "tagged".into(), vec![4, 6]),
        ("performer", "P".into(), vec![5]),
        ("genre", "genre 0".into(), vec![4, 6, 8, 10, 12]),
        ("maker", "maker 1".into(), vec![4, 7, 10]),
        // White space around a name is ignored, and a name needs something else.
        ("tag", "\u{3000}tagged\t".into(), vec![4, 6]),
        ("maker", "\u{a0}maker 1\n".into(), vec![4, 7, 10]),
        ("genre", " ".into(), vec![]),
    ] {
        for query in [&all, popular] {
            let before = ids(&ann.rows(query).await.unwrap());
            let block = format!(
                "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{ANN}', '{kind}', '{value}')"
            );
            ann.run(&block).await.unwrap();
            let after = ids(&ann.rows(query).await.unwrap());
            let expected: Vec<u128> = before.into_iter().filter(|n| !gone.contains(n)).collect();
            assert_eq!(after, expected, "{kind} {value}");
            ann.run("DELETE FROM recommendation_blocks").await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_stored_vector_counts_until_something_is_liked() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let first = "SELECT * FROM recommend_videos(1)";
    // Mixed: near the liked videos, 30° and 60°.
    let blended = ids(&ann.rows(first).await.unwrap());
    assert!([12, 4].contains(&blended[0]), "{blended:?}");
    let mut service = Person::with_claims(&url, "service_role", &json!({})).await;
    let write = |user: Uuid, version: i64, vector: &[f32]| {
        format!(
            "write_user_embedding('{user}', {version}, '{}')",
            encoded(vector)
        )
    };
    let towards_8 = [-0.5, -0.866_025_4];
    let written = service.value(&write(ANN, 7, &towards_8)).await.unwrap();
    assert_eq!(written, true);
    assert_eq!(ids(&ann.rows(first).await.unwrap()), [8]);
    // A vector of an older history comes too late, except over an update's; none may have a future
    // time.
    let context = ann.value("recommendation_context()").await.unwrap();
    let as_of = context["as_of"].as_str().unwrap();
    let shifted = |vector: &[f32], shift: &str| {
        let vector = encoded(vector);
        format!(
            "write_user_embedding('{ANN}', 7, '{vector}', '{as_of}'::timestamptz + interval '{shift}')"
        )
    };
    let stored = format!(
        "SELECT embedding::text AS vector, updated_at = '{as_of}'::timestamptz - interval '1 second' AS early, updated_at > now() AS late
         FROM user_embeddings"
    );
    let late = shifted(&[-1.0, 0.0], "-1 second");
    for (write, fingerprint, vector, early) in [
        (&late, 0, "[-0.5,-0.8660254]", false),
        (&late, 1, "[-1,0]", true),
        (
            &shifted(&towards_8, "1 year"),
            0,
            "[-0.5,-0.8660254]",
            false,
        ),
    ] {
        let by = format!("UPDATE user_embeddings SET fingerprint = {fingerprint}");
        execute(&url, &by).await;
        assert_eq!(service.value(write).await.unwrap(), true);
        let kept = service.rows(&stored).await.unwrap();
        let expected = json!({"vector": vector, "early": early, "late": false});
        assert_eq!(kept, [expected]);
    }
    // Values are refused that a later load would refuse.
    for norm in [0.9985, 1.0015] {
        let write = write(ANN, 7, &towards_8.map(|x: f32| x * norm));
        let (code, message) = service.refused(&format!("SELECT {write}")).await;
        assert_eq!(code, "22023", "{norm}");
        assert!(message.contains("norm of 0.999 to 1.001"), "{message}");
    }
    for norm in [0.9995, 1.0005] {
        let write = write(ANN, 7, &towards_8.map(|x: f32| x * norm));
        assert_eq!(service.value(&write).await.unwrap(), true, "{norm}");
    }
    // For another version nothing is stored.
    assert_eq!(
        service.value(&write(ANN, 6, &towards_8)).await.unwrap(),
        false
    );
    assert_eq!(
        service.value(&write(ANN, 8, &towards_8)).await.unwrap(),
        false
    );
    let like = format!("like_video('{}')", video(5));
    assert_eq!(ann.value(&like).await.unwrap(), true);
    assert_ne!(ids(&ann.rows(first).await.unwrap()), [8]);
    assert_eq!(
        service.value(&write(ANN, 7, &towards_8)).await.unwrap(),
        true
    );
    assert_eq!(ids(&ann.rows(first).await.unwrap()), [8]);
    // No other role writes vectors.
    let (code, _) = ann
        .refused(&format!("SELECT {}", write(ANN, 7, &towards_8)))
        .await;
    assert_eq!(code, "42501");
}

#[tokio::test]
async fn the_unknown_get_what_is_popular() {
    let url = circle(Place::Supabase).await;
    let mut bob = Person::user(&url, BOB).await;
    let rows = bob
        .rows("SELECT * FROM recommend_videos(100)")
        .await
        .unwrap();
    // Two likes, then one each by id, then those without likes; vectors do not matter.
    assert_eq!(ids(&rows), [9, 1, 2, 10, 3, 4, 5, 6, 7, 8, 11, 12]);
    assert_eq!(rows[0]["score"], 1);
    assert_eq!(rows[1]["score"], 0.5);
    assert_eq!(rows[11]["score"], 0);
    assert!(
        rows.iter()
            .all(|row| row["source"] == "popular" && row["model_version"] == 7)
    );
    // Before anything was counted, and without a model.
    execute(
        &url,
        "DELETE FROM twotower.video_popularity; DELETE FROM twotower.active_model",
    )
    .await;
    let rows = bob.rows("SELECT * FROM recommend_videos(3)").await.unwrap();
    assert_eq!(ids(&rows), [9, 1, 2]);
    assert_eq!(rows[0]["model_version"], Value::Null);
    let mut ann = Person::user(&url, ANN).await;
    let rows = ann
        .rows("SELECT * FROM recommend_videos(100)")
        .await
        .unwrap();
    assert_eq!(ids(&rows), [9, 10, 4, 5, 6, 7, 8, 11, 12, 3]);
}

/// However many were skipped after it, by vector, by likes, and with a vector index.
#[tokio::test]
async fn what_was_skipped_long_ago_comes_last_too() {
    let url = circle(Place::Supabase).await;
    execute(
        &url,
        &format!(
            "INSERT INTO videos (id, title) SELECT gen_random_uuid(), 'other' FROM generate_series(1, 1000);
             INSERT INTO skips (user_id, video_id) SELECT '{ANN}', id FROM videos WHERE title = 'other'"
        ),
    )
    .await;
    let mut ann = Person::user(&url, ANN).await;
    let query = encoded(&[1.0, 0.0]);
    let by_vector = format!("SELECT * FROM recommend_videos(9, query => '{query}')");
    let rows = ann.rows(&by_vector).await.unwrap();
    assert_eq!(ids(&rows), [12, 10, 9, 4, 8, 5, 7, 6, 3]);
    assert_eq!(rows[8]["skipped_before"], true);
    let by_likes = "SELECT * FROM similar_videos('00000000-0000-4000-8000-00000000000b', 9)";
    let rows = ann.rows(by_likes).await.unwrap();
    assert_eq!(ids(&rows)[..8], [9, 10, 4, 5, 6, 7, 8, 12]);
    assert_eq!(rows[8]["skipped_before"], true);

    let store = Store::connect(&url, few_connections()).await.unwrap();
    let plan = IndexPlan {
        version: 7,
        dim: 2,
        rows: 11,
        memory_cap_mb: 64,
    };
    store.build_vector_index(&plan).await.unwrap();
    let rows = ann.rows(&by_vector).await.unwrap();
    assert_eq!(ids(&rows), [12, 10, 9, 4, 8, 5, 7, 6, 3]);
}

#[tokio::test]
async fn similar_videos_leave_out_the_video_itself_and_what_left() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    let similar = format!("SELECT * FROM similar_videos('{}', 3)", video(5));
    assert_eq!(ids(&ann.rows(&similar).await.unwrap()), [4, 6, 7]);
    execute(
        &url,
        &format!("DELETE FROM videos WHERE id = '{}'", video(6)),
    )
    .await;
    assert_eq!(ids(&ann.rows(&similar).await.unwrap()), [4, 7, 8]);
    let unknown = format!("SELECT * FROM similar_videos('{}')", video(6));
    assert_eq!(ann.refused(&unknown).await.0, "PT404");
}

#[tokio::test]
async fn what_is_no_vector_and_no_limit_is_refused() {
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    for (arguments, says) in [
        (
            format!("query => '{}'", encoded(&[1.0])),
            "2 numbers of 4 bytes, not 4 bytes",
        ),
        (
            format!("query => '{}'", encoded(&[1.0, f32::NAN])),
            "the norm NaN",
        ),
        (
            format!("query => '{}'", encoded(&[1.0, f32::INFINITY])),
            "the norm NaN",
        ),
        (
            format!("query => '{}'", encoded(&[1.0, 1.0])),
            "the norm 1.41",
        ),
        (format!("query => '{}'", encoded(&[0.0, 0.0])), "the norm 0"),
        (
            format!("query => '{}'", encoded(&[1.005, 0.0])),
            "a norm of 0.999 to 1.001; this one has the norm 1.00",
        ),
        ("query => '?'".into(), "base64"),
        ("0".into(), "between 1 and 100"),
        ("101".into(), "between 1 and 100"),
        ("NULL".into(), "between 1 and 100"),
        ("min_score => 'NaN'".into(), "min_score"),
    ] {
        let (code, message) = ann
            .refused(&format!("SELECT * FROM recommend_videos({arguments})"))
            .await;
        assert_eq!(code, "22023", "{arguments}: {message}");
        assert!(message.contains(says), "{arguments}: {message}");
    }
    // Bit by bit, including subnormal numbers and signs.
    let numbers = [
        FRAC_1_SQRT_2,
        -FRAC_1_SQRT_2,
        1e-40,
        f32::MIN_POSITIVE,
        -0.0,
        0.01,
    ];
    let decode = format!(
        "encode(float4send((twotower.vector_from_base64('{}', 6))[n]), 'hex') AS bits FROM generate_series(1, 6) AS n",
        encoded(&numbers)
    );
    let bits: Vec<Value> = ann.rows(&format!("SELECT {decode}")).await.unwrap();
    for (number, bits) in numbers
        .iter()
        .zip(bits)
        .filter(|(number, _)| **number != 0.0)
    {
        assert_eq!(bits["bits"], format!("{:08x}", number.to_bits()));
    }
}

#[tokio::test]
async fn a_like_is_recorded_once_and_taken_back() {
    let url = circle(Place::OlderSupabase).await;
    let mut bob = Person::user(&url, BOB).await;
    let like = format!("like_video('{}')", video(4));
    let unlike = format!("like_video('{}', false)", video(4));
    for (call, changed) in [
        (&like, true),
        (&like, false),
        (&unlike, true),
        (&unlike, false),
    ] {
        assert_eq!(bob.value(call).await.unwrap(), changed);
    }
    let unknown = format!("SELECT like_video('{}')", video(99));
    assert_eq!(bob.refused(&unknown).await.0, "PT404");
    assert_eq!(
        bob.refused("SELECT like_video(gen_random_uuid(), NULL)")
            .await
            .0,
        "22023"
    );
}

#[tokio::test]
async fn the_erased_and_the_unknown_get_nothing() {
    let calls = [
        "recommend_videos()",
        "similar_videos('00000000-0000-4000-8000-000000000001')",
        "like_video('00000000-0000-4000-8000-000000000001')",
        "keep_recommendations('key', 'state', '{}')",
    ];
    let url = circle(Place::Supabase).await;
    let mut ann = Person::user(&url, ANN).await;
    ann.value("keep_recommendations('key', 'state', '{}')::text")
        .await
        .unwrap();
    let erased = ann.value("erase_me()").await.unwrap();
    assert_eq!(erased["likes_deleted"], 2);
    assert_eq!(erased["skips_deleted"], 1);
    // Called again, since the first answer may have been lost.
    let again = ann.value("erase_me()").await.unwrap();
    assert_eq!(again["erased_at"], erased["erased_at"]);
    assert_eq!(again["likes_deleted"], 0);
    for call in calls {
        let (code, message) = ann.refused(&format!("SELECT {call}")).await;
        assert_eq!((&*code, &*message), ("PT403", "erased"), "{call}");
    }
    let context = ann.value("recommendation_context()").await.unwrap();
    assert_eq!(context["erased"], true);
    assert_eq!(context["likes"], Value::Null);
    let mut owner = Person::owner(&url).await;
    let kept = owner
        .value("SELECT count(*) FROM recommendation_cache")
        .await
        .unwrap();
    assert_eq!(kept, 0);
    let mut service = Person::with_claims(&url, "service_role", &json!({})).await;
    let write = format!(
        "write_user_embedding('{ANN}', 7, '{}')",
        encoded(&[1.0, 0.0])
    );
    assert_eq!(service.value(&write).await.unwrap(), false);

    let mut nobody =
        Person::with_claims(&url, "authenticated", &json!({"role": "authenticated"})).await;
    for call in calls
        .into_iter()
        .chain(["recommendation_context()", "erase_me()"])
    {
        assert_eq!(
            nobody.refused(&format!("SELECT {call}")).await.0,
            "PT401",
            "{call}"
        );
    }
    let mut anonymous = Person::anonymous(&url).await;
    for call in calls
        .into_iter()
        .chain(["recommendation_context()", "erase_me()"])
    {
        assert_eq!(
            anonymous.refused(&format!("SELECT {call}")).await.0,
            "42501",
            "{call}"
        );
    }
}

/// What jobs and the Rust API see of these functions.
#[tokio::test]
async fn statistics_follow_the_likes() {
    let url = circle(Place::Plain).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let likes = format!("DELETE FROM likes WHERE video_id = '{}'", video(9));
    execute(&url, &likes).await;
    store.refresh_statistics().await.unwrap();
    let mut bob = Person::user(&url, BOB).await;
    let rows = bob.rows("SELECT * FROM recommend_videos(3)").await.unwrap();
    assert_eq!(ids(&rows), [1, 2, 10]);
}
