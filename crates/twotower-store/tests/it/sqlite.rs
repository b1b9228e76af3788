//! Promises of SQLite alone.

use crate::database;
use sqlx::{Connection, Executor, SqliteConnection};
use twotower_core::feature::Video;
use twotower_core::time::DAY_US;
use twotower_store::{
    ConnectOptions, EmbeddingRow, ErasePlan, InteractionKind, Lease, LeaseHolder, LeaseOutcome,
    SnapshotOptions, Source, Store, StoreError, StoreKind, VectorSummary, VectorTable,
};
use uuid::Uuid;

#[tokio::test]
async fn two_stores_share_a_file_and_migrate_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/shared.db", folder.path().display());
    let options = ConnectOptions::default();
    let (one, other) = tokio::join!(Store::connect(&url, options), Store::connect(&url, options));
    let (one, other) = (one.unwrap(), other.unwrap());
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    let applied = [first.unwrap(), second.unwrap()].concat();
    assert_eq!(
        applied,
        ["1", "2", "3", "4", "5", "6", "7"],
        "each migration is applied once"
    );
    let video = Video {
        id: Uuid::from_u128(1),
        ..Video::default()
    };
    one.write_videos(&[video]).await.unwrap();
    assert_eq!(other.counts().await.unwrap().videos, 1);
    one.close().await;
    other.close().await;
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["shared.db"], "closing folds the log back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_a_new_file_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/new.db", folder.path().display());
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { Store::connect(&url, ConnectOptions::default()).await })
            })
            .collect();
        for opened in opening {
            opened.await.unwrap().unwrap().ping().await.unwrap();
        }
    }
}

#[tokio::test]
async fn memory_is_a_store_too() {
    let store = Store::connect("sqlite::memory:", ConnectOptions::default())
        .await
        .unwrap();
    assert_eq!(store.kind(), StoreKind::Sqlite);
    assert_eq!(
        store.pending_migrations().await.unwrap(),
        ["1", "2", "3", "4", "5", "6", "7"]
    );
    assert_eq!(
        store.migrate().await.unwrap(),
        ["1", "2", "3", "4", "5", "6", "7"]
    );
    assert!(store.pending_migrations().await.unwrap().is_empty());
}

/// A clock that was set back has left a killed publisher's lease expiring a day ahead.
#[tokio::test]
async fn a_lease_that_ends_later_than_any_could_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/clock.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let ask = async |pid| {
        let asking = LeaseHolder {
            host: "host".into(),
            pid,
            since_us: 1,
        };
        store.take_lease(&asking, Lease::LONGEST).await.unwrap()
    };
    assert!(matches!(ask(1).await, LeaseOutcome::Taken(_)));
    assert!(matches!(ask(2).await, LeaseOutcome::Held(_)));
    let mut file = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("UPDATE twotower_publisher SET expires_at = expires_at + ?1")
        .bind(DAY_US)
        .execute(&mut file)
        .await
        .unwrap();
    assert!(matches!(ask(2).await, LeaseOutcome::Taken(_)));
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/private.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_source_may_write_ids_as_text() {
    let store = database::sqlite().await;
    let source = Source {
        videos: "SELECT '00000000-0000-0000-0000-000000000001' AS id, 't' AS title, NULL AS description, NULL AS genre,
                 NULL AS maker, NULL AS price, NULL AS duration_seconds, NULL AS published_at, NULL AS thumbnail_url"
            .into(),
        likes: "SELECT '00000000-0000-0000-0000-000000000002' AS user_id,
                '00000000-0000-0000-0000-000000000001' AS video_id, 5000000 AS created_at"
            .into(),
        ..Source::default()
    };
    let options = SnapshotOptions::default();
    let snapshot = store.read_snapshot(&source, options).await.unwrap();
    assert_eq!(snapshot.users, [Uuid::from_u128(2)]);
    let broken = Source {
        likes: source.likes.replace("5000000", "'yesterday'"),
        ..source
    };
    let error = store.read_snapshot(&broken, options).await.unwrap_err();
    assert!(error.to_string().contains("created_at"), "{error}");
}

/// An application that writes to the file may write any number for a time, such as nanoseconds.
#[tokio::test]
async fn a_like_of_an_impossible_time_counts_nowhere_in_our_own_table() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/odd.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let [video, user] = [1, 7].map(Uuid::from_u128);
    let videos = [1, 2, 3].map(|n| Video {
        id: Uuid::from_u128(n),
        ..Video::default()
    });
    store.write_videos(&videos).await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection
        .execute(
            "INSERT INTO likes SELECT x'00000000000000000000000000000007', id,
                 CASE row_number() OVER (ORDER BY id) WHEN 1 THEN 1767225600000000 WHEN 2 THEN 1767225600000000000 ELSE -1 END
             FROM videos;
             INSERT INTO skips SELECT * FROM likes",
        )
        .await
        .unwrap();
    let source = Source::default();
    let read = store.read_snapshot(&source, SnapshotOptions::default());
    let dataset = read.await.unwrap().dataset;
    assert_eq!((dataset.likes.len(), dataset.skips.len()), (1, 1));
    assert_eq!(store.last_seen(&source).await.unwrap().len(), 1);
    let state = store.user_state(user, 9).await.unwrap();
    assert_eq!((&*state.likes, &*state.skips), (&[video][..], &[video][..]));
    let history = store.user_history(user, 9).await.unwrap();
    assert_eq!((history.likes, history.skips), (state.likes, state.skips));
    assert_eq!(store.liked_videos(user).await.unwrap(), [video]);
    assert_eq!(store.like_counts().await.unwrap(), [(video, 1)]);
    assert_eq!(store.active_users(9).await.unwrap()[0].likes, 1);
}

/// A table of several kinds, from which a source or a view selects the videos.
#[tokio::test]
async fn a_column_of_several_kinds_is_not_of_videos() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/kinds.db", folder.path().display());
    let options = ConnectOptions::default();
    let store = Store::connect(&url, options).await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection
        .execute(
            "CREATE TABLE Reactions (member BLOB, kind TEXT, target BLOB, since INTEGER);
             CREATE VIEW hearts AS SELECT * FROM reactions WHERE kind = 'video';
             INSERT INTO reactions VALUES (zeroblob(16), 'video', x'000000000000000000000000000000aa', 1);
             INSERT INTO reactions VALUES (zeroblob(16), 'user', x'000000000000000000000000000000aa', 1)",
        )
        .await
        .unwrap();
    let both = Uuid::from_u128(0xaa);
    let vectors = [EmbeddingRow {
        id: both,
        fingerprint: 0,
        vector: &[0.6, 0.8],
    }];
    let written = store.write_embeddings(VectorTable::Videos, 1, &vectors);
    written.await.unwrap();
    for (rest, passed) in [
        ("reactions WHERE kind = 'video'", false),
        ("hearts", false),
        ("main.reactions r", true),
    ] {
        let likes = format!(
            "SELECT member AS user_id, target AS video_id, since AS created_at FROM {rest}"
        );
        let source = Source {
            likes,
            ..Source::default()
        };
        let rows = store.search_rows(both, &source).await.unwrap();
        let places = if passed {
            &rows.passed_over
        } else {
            &rows.found
        };
        assert!(rows.is_video && rows.found.is_empty() == passed, "{rows:?}");
        let place = ("Reactions.target".to_owned(), 2);
        assert!(places.contains(&place), "{rows:?}");
    }
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_named() {
    let error = Store::connect("sqlite:///no/such/folder/x.db", ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("/no/such/folder/x.db"),
        "{error}"
    );
    let error = Store::connect("mysql://me:s3cret@host/db", ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn no_file_is_made_for_who_asks_for_one_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file.db");
    let options = ConnectOptions::default();
    let url = format!("sqlite://{}/a%20file.db", folder.path().display());
    for url in [url.clone(), format!("{url}?mode=rwc")] {
        let error = Store::connect_existing(&url, options).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::NoFile(path) if *path == file) && error.is_usage(),
            "{error}"
        );
        assert!(!file.exists());
    }
    Store::connect(&url, options).await.unwrap().close().await;
    let store = Store::connect_existing(&url, options).await.unwrap();
    store.migrate().await.unwrap();
    let memory = Store::connect_existing("sqlite::memory:", options).await;
    memory.unwrap().migrate().await.unwrap();
}

/// A reader sees its own moment, whatever is written meanwhile; a writer waits for another.
#[tokio::test]
async fn writers_queue_instead_of_failing() {
    let store = database::sqlite().await;
    let video = Video {
        id: Uuid::from_u128(1),
        ..Video::default()
    };
    store
        .write_videos(std::slice::from_ref(&video))
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let user = Uuid::from_u128(n);
            store
                .record(InteractionKind::Like, user, Uuid::from_u128(1))
                .await
        });
    }
    while let Some(result) = tasks.join_next().await {
        assert!(result.unwrap().unwrap());
    }
    assert_eq!(store.counts().await.unwrap().likes, 64);
}

/// SQLite itself would accept values that are no vectors.
#[tokio::test]
async fn vectors_that_are_none_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let rows = [1, 2, 3, 4].map(|n| EmbeddingRow {
        id: Uuid::from_u128(n),
        fingerprint: 0,
        vector: &[0.6, 0.8],
    });
    let table = VectorTable::Videos;
    store.write_embeddings(table, 1, &rows).await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    // NaN in the first number of one, a norm above 4 in another, and one of 1.005, which reading
    // refuses.
    connection
        .execute(
            "UPDATE video_embeddings SET embedding = x'0000c07f0000803f' WHERE substr(video_id, 16) = x'01';
             UPDATE video_embeddings SET embedding = x'000080400000803f' WHERE substr(video_id, 16) = x'02';
             UPDATE video_embeddings SET embedding = x'd7a3803f00000000' WHERE substr(video_id, 16) = x'03'",
        )
        .await
        .unwrap();
    let expected = VectorSummary {
        rows: 4,
        not_finite: 1,
        wrong_norm: 2,
        ..VectorSummary::default()
    };
    let summary = store.summarize_vectors(table, 1, 2).await.unwrap();
    assert_eq!(summary, expected);
}

/// Statements of `[erase]` for likes that are read from elsewhere can cover skips that are a view.
#[tokio::test]
async fn an_erasure_leaves_a_view_to_the_statements() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default());
    let store = store.await.unwrap();
    store.migrate().await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let rename = "ALTER TABLE skips RENAME TO member_skips;
         CREATE VIEW skips AS SELECT user_id, video_id, created_at FROM member_skips";
    connection.execute(rename).await.unwrap();
    let mut plan = ErasePlan {
        likes: true,
        skips: true,
        statements: vec!["DELETE FROM member_skips WHERE user_id = $1".into()],
    };
    let user = Uuid::from_u128(1);
    let error = store.erase_user(user, &plan).await.unwrap_err();
    assert!(error.to_string().contains("view"), "{error}");
    plan.likes = false;
    let erased = store.erase_user(user, &plan).await.unwrap();
    assert_eq!((erased.skips, &erased.statements[..]), (0, &[0][..]));
}

/// A file with the first `schemas` versions of the schema.
async fn old_file(url: &str, schemas: &[&'static str], rows: &'static str) {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    for schema in schemas {
        connection.execute(*schema).await.unwrap();
    }
    connection.execute(rows).await.unwrap();
    connection.close().await.unwrap();
}

/// Activations from before they were recorded are part of the history.
#[tokio::test]
async fn a_file_of_the_first_schema_gets_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/old.db?mode=rwc", folder.path().display());
    old_file(
        &url,
        &[include_str!("../../src/sqlite/schema_1.sql")],
        "INSERT INTO twotower_models (version, state, embedding_dim, created_at, activated_at, snapshot_sha256,
                                      hyperparameters, metrics, manifest_sha256, reason)
         VALUES (1, 'active', 2, 0, 10, '', '{}', '{}', '', 'back'), (2, 'retired', 2, 0, 20, '', '{}', '{}', '', 'update'),
                (3, 'loading', 2, 0, NULL, '', '{}', '{}', '', NULL);
         INSERT INTO twotower_active_model VALUES (1, 1);
         PRAGMA user_version = 1",
    )
    .await;
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    assert_eq!(
        store.migrate().await.unwrap(),
        ["2", "3", "4", "5", "6", "7"]
    );
    let history = store.activations().await.unwrap();
    let seen: Vec<_> = history
        .iter()
        .map(|one| (one.version, one.previous_version, &*one.reason))
        .collect();
    assert_eq!(seen, [(2, None, "update"), (1, Some(2), "back")]);
}

/// Its control was replaced by a version of twotower that did not end experiments.
#[tokio::test]
async fn an_experiment_that_was_left_open_is_ended() {
    const SCHEMAS: [&str; 6] = [
        include_str!("../../src/sqlite/schema_1.sql"),
        include_str!("../../src/sqlite/schema_2.sql"),
        include_str!("../../src/sqlite/schema_3.sql"),
        include_str!("../../src/sqlite/schema_4.sql"),
        include_str!("../../src/sqlite/schema_5.sql"),
        include_str!("../../src/sqlite/schema_6.sql"),
    ];
    // Of version 2 against 1: while 1 is active, after 2 was activated, and after none was left.
    let moments = [
        (
            true,
            "INSERT INTO twotower_active_model VALUES (1, 1); PRAGMA user_version = 6",
        ),
        (
            false,
            "INSERT INTO twotower_active_model VALUES (1, 2); PRAGMA user_version = 6",
        ),
        (false, "PRAGMA user_version = 6"),
    ];
    for (runs, rest) in moments {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/old.db?mode=rwc", folder.path().display());
        let experiment = "INSERT INTO twotower_models (version, state, embedding_dim, created_at, snapshot_sha256,
                                                       hyperparameters, metrics, manifest_sha256)
                          VALUES (1, 'candidate', 2, 0, '', '{}', '{}', ''), (2, 'candidate', 2, 0, '', '{}', '{}', '');
                          INSERT INTO twotower_experiments (control_version, challenger_version, share, started_at, started_by, reason)
                          VALUES (1, 2, 0.5, 10, 'ann', 'it is new');";
        let schemas = [&SCHEMAS[..], &[experiment]].concat();
        old_file(&url, &schemas, rest).await;
        let store = Store::connect(&url, ConnectOptions::default())
            .await
            .unwrap();
        let before = store.time().await.unwrap();
        assert_eq!(store.migrate().await.unwrap(), ["7"]);
        let after = store.time().await.unwrap();
        let running = store.running_experiment().await.unwrap();
        assert_eq!(running.is_some(), runs, "{rest}");
        let ended_at_us = store.experiments().await.unwrap()[0].ended_at_us;
        assert_eq!(ended_at_us.is_none(), runs, "{rest}");
        if let Some(ended_at_us) = ended_at_us {
            // SQL has millisecond precision.
            let times = before.us() - 2000..=after.us();
            assert!(times.contains(&ended_at_us), "{ended_at_us}, {times:?}");
        }
    }
}
