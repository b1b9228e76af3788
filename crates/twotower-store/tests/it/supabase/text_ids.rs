//! Tables of the application's own whose ids are text.

use super::functions::{circle, encoded, fill_circle, ids};
use super::person::{ANN, BOB, Person, video};
use super::stand_in::Place;
use super::user_tower::mean_tower;
use crate::database::{execute, few_connections};
use serde_json::Value;
use twotower_store::Store;

const LIKES: &str = "
    CREATE TABLE likes (user_id text, video_id text, created_at timestamptz DEFAULT now(), PRIMARY KEY (user_id, video_id));
    CREATE TABLE skips (LIKE likes INCLUDING ALL);
    GRANT SELECT ON likes, skips TO authenticated;
    GRANT INSERT, DELETE ON likes TO authenticated;";

const CATALOGUE: &str = "
    CREATE TABLE videos (id text PRIMARY KEY, title text, genre text, maker text);
    CREATE TABLE tags (id text PRIMARY KEY, name text);
    CREATE TABLE performers (LIKE tags INCLUDING ALL);
    CREATE TABLE video_tags (video_id text, tag_id text);
    CREATE TABLE video_performers (video_id text, performer_id text);
    GRANT SELECT ON videos, tags, performers, video_tags, video_performers TO authenticated;";

/// Ann's and Bob's answers at each step, without times.
async fn told(url: &str) -> Vec<Value> {
    let store = Store::connect(url, few_connections()).await.unwrap();
    let block = "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES";
    execute(
        url,
        &format!(
            "{block} ('{BOB}', 'tag', 'tagged'), ('{BOB}', 'performer', 'P'), ('{BOB}', 'video', '{}')",
            video(8)
        ),
    )
    .await;
    let query = encoded(&[1.0, 0.0]);
    let lists = [
        "recommend_videos(100)".to_owned(),
        "recommend_videos(100, false)".to_owned(),
        format!("recommend_videos(100, query => '{query}')"),
        format!("similar_videos('{}', 100)", video(5)),
        // Without a vector: by likes.
        format!("similar_videos('{}', 100)", video(11)),
    ];
    let mut told = Vec::new();
    for has_tower in [false, true] {
        if has_tower {
            store.write_user_tower(7, &mean_tower()).await.unwrap();
        }
        for user in [ANN, BOB] {
            let mut person = Person::user(url, user).await;
            for list in &lists {
                let rows = person.rows(&format!("SELECT * FROM {list}")).await;
                told.push(Value::from(rows.unwrap()));
            }
            let like = format!("like_video('{}')", video(4));
            let unlike = format!("like_video('{}', false)", video(4));
            for call in [
                "recommendation_context() - 'as_of'",
                &like,
                "recommendation_answer(100) #- '{answer,generated_at}'",
                &unlike,
            ] {
                told.push(person.value(call).await.unwrap());
            }
        }
    }
    // Before anything was counted.
    execute(url, "DELETE FROM twotower.video_popularity").await;
    let mut bob = Person::user(url, BOB).await;
    let rows = bob.rows("SELECT * FROM recommend_videos(100)").await;
    told.push(Value::from(rows.unwrap()));
    told
}

#[tokio::test]
async fn they_are_told_the_same() {
    let expected = told(&circle(Place::Plain).await).await;
    for tables in [LIKES.to_owned(), [CATALOGUE, LIKES].concat()] {
        let url = Place::Plain.empty().await;
        execute(&url, &tables).await;
        let store = Store::connect(&url, few_connections()).await.unwrap();
        store.migrate().await.unwrap();
        fill_circle(&url).await;
        for (found, expected) in told(&url).await.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
    }
}

/// Ids of tags and performers may have any type, even two different ones in referring columns.
#[tokio::test]
async fn blocks_hold_whatever_ids_tags_and_performers_have() {
    for (id, link, quoted) in [
        ("bigint", "bigint", false),
        ("integer", "bigint", false),
        ("varchar(20)", "varchar(20)", true),
        ("varchar(20)", "text", true),
    ] {
        let url = circle(Place::Plain).await;
        let value = if quoted { "'one'" } else { "1" };
        let mut owner = Person::owner(&url).await;
        owner
            .run(&format!(
                "DROP TABLE video_tags, video_performers, tags, performers;
                 CREATE TABLE tags (id {id} PRIMARY KEY, name text); CREATE TABLE performers (LIKE tags INCLUDING ALL);
                 CREATE TABLE video_tags (video_id uuid, tag_id {link}, PRIMARY KEY (video_id, tag_id));
                 CREATE TABLE video_performers (video_id uuid, performer_id {link});
                 GRANT SELECT ON tags, performers, video_tags, video_performers TO authenticated;
                 INSERT INTO tags VALUES ({value}, 'tagged'); INSERT INTO performers VALUES ({value}, 'P');
                 INSERT INTO video_tags SELECT id, {value} FROM videos WHERE title IN ('video 4', 'video 6');
                 INSERT INTO video_performers SELECT id, {value} FROM videos WHERE title = 'video 5'"
            ))
            .await
            .unwrap();
        let query = encoded(&[1.0, 0.0]);
        for list in [
            format!("recommend_videos(100, query => '{query}')"),
            // By likes.
            format!("similar_videos('{}', 100)", video(11)),
        ] {
            let mut ann = Person::user(&url, ANN).await;
            let list = format!("SELECT * FROM {list}");
            let before = ids(&ann.rows(&list).await.unwrap());
            for (kind, name, blocked) in
                [("tag", "tagged", vec![4, 6]), ("performer", "P", vec![5])]
            {
                let block = format!(
                    "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{ANN}', '{kind}', '{name}')"
                );
                ann.run(&block).await.unwrap();
                let after = ids(&ann.rows(&list).await.unwrap());
                let passes = |n: &u128| !blocked.contains(n);
                let expected: Vec<u128> = before.iter().copied().filter(passes).collect();
                assert_eq!(after, expected, "{id}, {link}, {kind}");
                ann.run("DELETE FROM recommendation_blocks").await.unwrap();
            }
        }
    }
}

/// Tables that refer to such ids must be created by the application; the error names them before
/// anything is applied.
#[tokio::test]
async fn tables_that_cannot_be_made_are_named_first() {
    let url = Place::Plain.empty().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let all = store.pending_migrations().await.unwrap();
    let refused = async || store.migrate().await.unwrap_err().to_string();
    execute(
        &url,
        "CREATE TABLE videos (id text PRIMARY KEY, title text, genre text, maker text)",
    )
    .await;
    let said = refused().await;
    for part in [
        "videos.id is text and not uuid",
        "cannot make video_tags, video_performers, likes, skips",
        "docs/deployment.md, \"1.2 Data\"",
    ] {
        assert!(said.contains(part), "{said}");
    }
    execute(
        &url,
        "CREATE TABLE tags (id bigint PRIMARY KEY, name text);
         CREATE TABLE likes (user_id text, video_id text, created_at timestamptz, PRIMARY KEY (user_id, video_id));
         CREATE TABLE video_performers (video_id text, performer_id uuid)",
    )
    .await;
    let said = refused().await;
    for part in [
        "tags.id is bigint, videos.id is text and not uuid",
        "cannot make video_tags, skips: create these tables",
    ] {
        assert!(said.contains(part), "{said}");
    }
    execute(
        &url,
        "CREATE TABLE video_tags (video_id text, tag_id bigint)",
    )
    .await;
    let said = refused().await;
    assert!(
        said.contains("videos.id is text and not uuid")
            && said.contains("make skips: create that table"),
        "{said}"
    );
    assert_eq!(store.pending_migrations().await.unwrap(), all);
    execute(&url, "CREATE TABLE skips (LIKE likes INCLUDING ALL)").await;
    assert_eq!(store.migrate().await.unwrap(), all);
}

/// An id that is no UUID is named, not guessed, and affects only its user.
#[tokio::test]
async fn other_texts_are_refused() {
    let url = Place::Plain.empty().await;
    execute(&url, LIKES).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    store.migrate().await.unwrap();
    fill_circle(&url).await;
    let popularity = async || {
        store.refresh_statistics().await.unwrap();
        let rows = "SELECT video_id, likes FROM twotower.video_popularity ORDER BY video_id";
        Person::owner(&url).await.rows(rows).await.unwrap()
    };
    let counted = popularity().await;
    execute(
        &url,
        &format!(
            "INSERT INTO likes VALUES ('{ANN}', 'film-1'), ('somebody', '{}')",
            video(1)
        ),
    )
    .await;
    assert_eq!(popularity().await, counted);
    assert!(!counted.is_empty());
    let mut ann = Person::user(&url, ANN).await;
    for call in [
        "SELECT * FROM recommend_videos()",
        "SELECT recommendation_answer()",
    ] {
        let (code, message) = ann.refused(call).await;
        assert_eq!(code, "22P02", "{call}: {message}");
        assert!(message.contains("film-1"), "{call}: {message}");
    }
    // Other users' likes are unaffected.
    let popular = "SELECT * FROM recommend_videos()";
    let mut bob = Person::user(&url, BOB).await;
    execute(
        &url,
        "DELETE FROM user_embeddings; DELETE FROM twotower.video_popularity",
    )
    .await;
    assert!(!bob.rows(popular).await.unwrap().is_empty());
    execute(&url, "SELECT twotower.refresh_statistics()").await;
    let mut bob = Person::user(&url, BOB).await;
    assert!(!bob.rows(popular).await.unwrap().is_empty());
}
