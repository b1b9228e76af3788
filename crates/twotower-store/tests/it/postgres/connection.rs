//! Timeouts, dead connections, and secrets in errors.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{Connection, Executor, PgConnection};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use twotower_store::{ConnectOptions, InteractionKind, Store, StoreError};
use uuid::Uuid;

#[tokio::test]
async fn a_statement_that_waits_too_long_is_cancelled_on_the_server_too() {
    let url = postgres_url().await;
    let options = ConnectOptions {
        statement_timeout: Duration::from_millis(200),
        ..few_connections()
    };
    let store = Store::connect(&url, options).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    other
        .execute("BEGIN; LOCK TABLE public.likes IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let user = Uuid::from_u128(1);
    let error = store.liked_videos(user).await.unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
    assert!(error.is_transient());
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let row = other.fetch_one(waiting).await.unwrap();
    assert_eq!(
        sqlx::Row::get::<i64, _>(&row, 0),
        0,
        "nothing waits on the server"
    );
    other.execute("ROLLBACK").await.unwrap();
    assert!(store.liked_videos(user).await.unwrap().is_empty());
}

/// A server gives requests less time than its bulk reads, over the same connections.
#[tokio::test]
async fn what_is_in_a_hurry_is_cancelled_early_and_nothing_else_is() {
    let url = postgres_url().await;
    let options = ConnectOptions {
        max_connections: 1,
        ..ConnectOptions::default()
    };
    let store = Store::connect(&url, options).await.unwrap();
    let hurried = store.hurried(Duration::from_millis(200));
    let mut other = PgConnection::connect(&url).await.unwrap();
    other
        .execute("BEGIN; LOCK TABLE public.likes IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let user = Uuid::from_u128(1);
    let error = hurried.liked_videos(user).await.unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
    let error = hurried.user_state(user, 5).await.unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
    // They run longer than that, for as long as the caller waits.
    let patience = Duration::from_millis(800);
    let read = tokio::time::timeout(patience, store.liked_videos(user)).await;
    assert!(read.is_err(), "{read:?}");
    let bulk = tokio::time::timeout(patience, hurried.counts()).await;
    assert!(bulk.is_err(), "{bulk:?}");
    other.execute("ROLLBACK").await.unwrap();
    // A shorter timeout is not extended.
    let soon = hurried.hurried(Duration::from_mins(1));
    other
        .execute("BEGIN; LOCK TABLE public.likes IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let error = soon.liked_videos(user).await.unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
}

/// An abandoned call must not delay the next one.
#[tokio::test]
async fn an_abandoned_call_gives_its_place_back() {
    let url = postgres_url().await;
    let options = ConnectOptions {
        max_connections: 1,
        ..ConnectOptions::default()
    };
    let store = Store::connect(&url, options).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    other
        .execute("BEGIN; LOCK TABLE public.likes IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let call = store.liked_videos(Uuid::from_u128(1));
    let abandoned = tokio::time::timeout(Duration::from_millis(200), call).await;
    assert!(abandoned.is_err());
    // The lock is still held, so that a reused connection would answer only after
    // statement_timeout.
    let clock = Instant::now();
    store.ping().await.unwrap();
    assert!(clock.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn connections_that_died_while_idle_are_replaced() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let calls = (0..9).map(|_| store.ping());
    futures_util::future::try_join_all(calls).await.unwrap();
    execute(
        &url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    let calls = (0..9).map(|_| store.ping());
    futures_util::future::try_join_all(calls).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = ConnectOptions {
        acquire_timeout: Duration::from_millis(300),
        ..few_connections()
    };
    let url = format!("postgresql://me:s3cret@127.0.0.1:{port}/db");
    let clock = Instant::now();
    let error = Store::connect(&url, options).await.unwrap_err();
    assert!(clock.elapsed() < Duration::from_secs(5));
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn nothing_printed_holds_the_password() {
    let url = postgres_url().await;
    let url = url.replace("postgres@", "postgres:s3cret@");
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let text = format!("{store:?}");
    assert!(!text.contains("s3cret"), "{text}");
    let nowhere = url.replace("127.0.0.1", "127.0.0.2");
    let (place, _) = nowhere.rsplit_once('/').unwrap();
    for url in [
        format!("{place}/no_such_database"),
        "postgresql://me:s3cret@127.0.0.1:1/db".into(),
    ] {
        let error = Store::connect(&url, few_connections()).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_table_and_a_missing_grant_say_what_to_do() {
    let url = postgres_url().await;
    let role = format!(
        "twotower_test_{}",
        Uuid::from_u128(u128::from(std::process::id())).simple()
    );
    execute(
        &url,
        &format!("CREATE ROLE {role} LOGIN; DROP TABLE public.skips"),
    )
    .await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let error = store.counts().await.unwrap_err();
    assert!(error.to_string().contains("skips"), "{error}");
    assert!(error.to_string().contains("twotower migrate"), "{error}");
    let limited = url.replace("postgres@", &format!("{role}@"));
    let limited = Store::connect(&limited, few_connections()).await.unwrap();
    let error = limited.liked_videos(Uuid::from_u128(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Permission(_)), "{error}");
    limited.close().await;
    execute(&url, &format!("DROP ROLE {role}")).await;
}

/// Behind a pooler in transaction mode nothing remains on the server's session: no prepared
/// statement, no setting.
#[tokio::test]
async fn a_session_is_left_as_it_was() {
    let url = postgres_url().await;
    let options = ConnectOptions {
        max_connections: 1,
        ..ConnectOptions::default()
    };
    let store = Store::connect(&url, options).await.unwrap();
    let user = Uuid::from_u128(1);
    store.user_history(user, 5).await.unwrap();
    store.active_model().await.unwrap();
    let unknown = store.record(InteractionKind::Like, user, user).await;
    assert!(matches!(unknown, Err(StoreError::UnknownVideo(_))));
    store.video_titles().await.unwrap();
    // A session's statements are only listed within it, so a source query counts them.
    let source = twotower_store::Source {
        video_tags: "SELECT gen_random_uuid() AS video_id, name FROM pg_prepared_statements
                     UNION ALL SELECT gen_random_uuid(), 'a temporary table' FROM pg_class
                     WHERE relpersistence = 't'"
            .into(),
        ..twotower_store::Source::default()
    };
    let options = twotower_store::SnapshotOptions::default();
    let snapshot = store.read_snapshot(&source, options).await.unwrap();
    assert_eq!(snapshot.orphans, 0);
}
