//! Changes are notified, whoever makes them; and a request costs one round trip.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::time::Duration;
use twotower_core::feature::Video;
use twotower_store::{
    Block, BlockKind, ConnectOptions, ErasePlan, InteractionKind, InteractionRow, Store,
    StoreError, UserChange, UserChanges,
};
use uuid::Uuid;

const LIKE: InteractionKind = InteractionKind::Like;
const SKIP: InteractionKind = InteractionKind::Skip;

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

async fn with_videos(store: &Store, n: u128) {
    let videos: Vec<Video> = (1..=n)
        .map(|n| Video {
            id: Uuid::from_u128(n),
            ..Video::default()
        })
        .collect();
    store.write_videos(&videos).await.unwrap();
}

async fn next(changes: &mut UserChanges) -> UserChange {
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, changes.next())
        .await
        .expect("nothing was heard")
}

#[tokio::test]
async fn every_change_is_heard_once_and_names_nobody() {
    let url = postgres_url().await;
    let (store, user, video) = (connect(&url).await, Uuid::from_u128(9), Uuid::from_u128(1));
    with_videos(&store, 3).await;
    let mut changes = store.listen_user_changes().await.unwrap().unwrap();
    let key = changes.hasher().key(user);
    assert_ne!(key, changes.hasher().key(video));
    let heard = UserChange::User(key);
    assert!(store.record(LIKE, user, video).await.unwrap());
    assert_eq!(next(&mut changes).await, heard);
    // Nothing changes, so the next notification is the skip.
    assert!(!store.record(LIKE, user, video).await.unwrap());
    assert!(store.record(SKIP, user, video).await.unwrap());
    assert_eq!(next(&mut changes).await, heard);
    let block = Block {
        kind: BlockKind::Tag,
        value: "a".into(),
    };
    store.add_block(user, &block).await.unwrap();
    assert_eq!(next(&mut changes).await, heard);
    store.remove_block(user, &block).await.unwrap();
    assert_eq!(next(&mut changes).await, heard);
    // The application itself, as a user with row level security.
    let sub = format!("{{\"sub\": \"{user}\"}}");
    execute(
        &url,
        &format!(
            "SELECT set_config('request.jwt.claims', '{sub}', false); SET ROLE authenticated;
             DELETE FROM skips WHERE user_id = '{user}'"
        ),
    )
    .await;
    assert_eq!(next(&mut changes).await, heard);
    let other = Uuid::from_u128(10);
    execute(&url, &format!("UPDATE likes SET user_id = '{other}'")).await;
    let both = [next(&mut changes).await, next(&mut changes).await];
    let other = UserChange::User(changes.hasher().key(other));
    assert!(both.contains(&heard) && both.contains(&other), "{both:?}");
    execute(&url, "TRUNCATE likes").await;
    assert_eq!(next(&mut changes).await, UserChange::All);
    // A user without any data.
    let plan = ErasePlan {
        likes: true,
        skips: true,
        ..ErasePlan::default()
    };
    store.erase_user(user, &plan).await.unwrap();
    assert_eq!(next(&mut changes).await, heard);
}

#[tokio::test]
async fn what_is_on_the_channel_is_the_key_that_rust_computes() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    with_videos(&store, 1).await;
    let mut listener = sqlx::postgres::PgListener::connect(&url).await.unwrap();
    listener.listen("twotower_user_changes").await.unwrap();
    let user = Uuid::from_u128(0xabc << 90);
    store.record(LIKE, user, Uuid::from_u128(1)).await.unwrap();
    let payload = listener.recv().await.unwrap();
    let payload = payload.payload();
    assert!(!payload.contains(&user.simple().to_string()));
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let sql = format!("SELECT twotower.user_change_key('{user}')");
    let row = connection.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    assert_eq!(payload, row.get::<&str, _>(0));
}

#[tokio::test]
async fn an_import_is_one_word() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    with_videos(&store, 1).await;
    let mut changes = store.listen_user_changes().await.unwrap().unwrap();
    let rows = |users: std::ops::Range<u128>| -> Vec<InteractionRow> {
        users
            .map(|n| InteractionRow {
                user: Uuid::from_u128(n),
                video: Uuid::from_u128(1),
                at_us: 1,
            })
            .collect()
    };
    store.write_interactions(LIKE, &rows(0..65)).await.unwrap();
    assert_eq!(next(&mut changes).await, UserChange::All);
    store
        .write_interactions(LIKE, &rows(100..164))
        .await
        .unwrap();
    for _ in 0..64 {
        assert!(matches!(next(&mut changes).await, UserChange::User(_)));
    }
    // Other messages on the channel are ignored.
    execute(&url, "NOTIFY twotower_user_changes, 'hello'").await;
    store.write_interactions(SKIP, &rows(1..2)).await.unwrap();
    let heard = UserChange::User(changes.hasher().key(Uuid::from_u128(1)));
    assert_eq!(next(&mut changes).await, heard);
}

#[tokio::test]
async fn a_lost_connection_is_told_of_and_comes_back() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    with_videos(&store, 1).await;
    let mut changes = store.listen_user_changes().await.unwrap().unwrap();
    // Another database may have taken its place, with another secret for keys.
    execute(
        &url,
        "UPDATE twotower.change_key SET key = sha256('another');
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    assert_eq!(next(&mut changes).await, UserChange::Lost);
    assert_eq!(next(&mut changes).await, UserChange::All);
    let user = Uuid::from_u128(7);
    store.record(LIKE, user, Uuid::from_u128(1)).await.unwrap();
    let heard = UserChange::User(changes.hasher().key(user));
    assert_eq!(next(&mut changes).await, heard);
}

/// A table of the application without triggers: servers must not rely on notifications of likes.
#[tokio::test]
async fn where_a_trigger_is_missing_there_is_nothing_to_listen_to() {
    for spoil in [
        "DROP TRIGGER twotower_user_changes_delete ON likes",
        "ALTER TABLE skips DISABLE TRIGGER twotower_user_changes_insert",
    ] {
        let url = postgres_url().await;
        execute(&url, spoil).await;
        let changes = connect(&url).await.listen_user_changes().await.unwrap();
        assert!(changes.is_none(), "{spoil}");
    }
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_cancelled_and_leaves_no_setting() {
    let url = postgres_url().await;
    let options = ConnectOptions {
        max_connections: 1,
        statement_timeout: Duration::from_millis(200),
        ..ConnectOptions::default()
    };
    let store = Store::connect(&url, options).await.unwrap();
    let user = Uuid::from_u128(1);
    store.user_state(user, 5).await.unwrap();
    let source = twotower_store::Source {
        video_tags: "SELECT gen_random_uuid() AS video_id, name FROM pg_settings
                     WHERE name = 'statement_timeout' AND setting <> '3600000'"
            .into(),
        ..twotower_store::Source::default()
    };
    let snapshot = store.read_snapshot(&source, twotower_store::SnapshotOptions::default());
    assert_eq!(snapshot.await.unwrap().orphans, 0);
    let mut other = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE public.likes IN ACCESS EXCLUSIVE MODE";
    other.execute(lock).await.unwrap();
    let error = store.user_state(user, 5).await.unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
    other.execute("ROLLBACK").await.unwrap();
    store.user_state(user, 5).await.unwrap();
}

/// The application may use text ids and lack a creation time of videos.
#[tokio::test]
async fn tables_of_the_application_are_read_as_they_are() {
    let url = crate::database::empty_postgres_url().await;
    execute(
        &url,
        "CREATE TABLE videos (id uuid PRIMARY KEY, title text, description text, genre text, maker text, price numeric(10, 2),
                              duration_seconds integer, thumbnail_url text, published_at timestamp);
         CREATE TABLE likes (user_id text, video_id uuid, created_at timestamptz DEFAULT now());
         INSERT INTO videos (id, price, published_at) VALUES
             ('00000000-0000-0000-0000-000000000001', 9.99, '2026-01-01'), ('00000000-0000-0000-0000-000000000002', NULL, NULL);
         INSERT INTO likes (user_id, video_id)
         VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001')",
    )
    .await;
    let store = connect(&url).await;
    store.migrate().await.unwrap();
    let state = store.user_state(Uuid::from_u128(2), 5).await.unwrap();
    assert_eq!(state.likes, [Uuid::from_u128(1)]);
    assert!(store.listen_user_changes().await.unwrap().is_none());
    let mut facts = Vec::new();
    let mut collect = |video| facts.push(video);
    store.for_each_video_facts(&mut collect).await.unwrap();
    assert_eq!(facts[0].price, Some(9.99));
    assert_eq!(facts[0].published_at_us, Some(1_767_225_600_000_000));
    assert_eq!(facts[1].published_at_us, None);
}

/// If one such video were an error, it would be requested repeatedly and no new vector loaded.
#[tokio::test]
async fn a_time_without_end_is_none() {
    let url = postgres_url().await;
    execute(
        &url,
        "INSERT INTO videos (id, title, thumbnail_url, published_at) VALUES
             ('00000000-0000-0000-0000-000000000001', 'one', 'https://one', 'infinity'),
             ('00000000-0000-0000-0000-000000000002', 'two', 'https://two', '-infinity'),
             ('00000000-0000-0000-0000-000000000003', 'three', 'https://three', '2026-01-01 00:00:00Z')",
    )
    .await;
    let store = connect(&url).await;
    let ids = [1, 2, 3].map(Uuid::from_u128);
    let mut facts = store.video_facts(&ids).await.unwrap();
    let published = ids.map(|id| facts.remove(&id).unwrap().published_at_us);
    assert_eq!(published, [None, None, Some(1_767_225_600_000_000)]);
    let cards = store.video_cards(&ids).await.unwrap();
    let texts: Vec<_> = cards
        .iter()
        .map(|card| (&*card.title, card.thumbnail_url.as_deref().unwrap()))
        .collect();
    let expected = [
        ("one", "https://one"),
        ("two", "https://two"),
        ("three", "https://three"),
    ];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn new_vectors_are_found_by_index() {
    let url = postgres_url().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection
        .execute(
            "INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint, updated_at)
             SELECT gen_random_uuid(), 1 + n % 2, '[1, 0]', 0, now() - n * interval '1 minute' FROM generate_series(1, 5000) AS n;
             ANALYZE video_embeddings",
        )
        .await
        .unwrap();
    let plan = connection
        .fetch_all(
            "EXPLAIN SELECT video_id, embedding::real[] FROM public.video_embeddings WHERE model_version = 1
             AND updated_at >= now() - interval '5 minutes' ORDER BY video_id",
        )
        .await
        .unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(
        plan.concat().contains("video_embeddings_updated_at_idx"),
        "{plan:#?}"
    );
}
