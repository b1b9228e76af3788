//! Restoring into a database that is not empty.

use super::backups::{back_up, backup_of, block};
use super::{
    LIKE, SKIP, START_US, contract, model, promotion, user_id, vector_rows, video_id, with_videos,
};
use crate::database;
use sqlx::{Connection, Executor, SqliteConnection};
use std::path::Path;
use twotower_store::{
    Backup, ConnectOptions, EventKind, EventPolicy, ModelState, NewEvent, RestoreOptions, Source,
    Store, StoreError, StoreKind, VectorTable,
};
use uuid::Uuid;

contract! {
    rows_of_users_whom_the_backup_erased_are_deleted,
    rows_in_tables_of_other_names_are_counted,
    a_backup_without_an_active_version_leaves_readers_theirs,
}

/// Another database of the same kind. Its salt is the backup's, or it has no tombstones yet.
async fn another(store: &Store) -> database::TestStore {
    match store.kind() {
        StoreKind::Postgres => database::postgres().await,
        StoreKind::Sqlite => database::sqlite().await,
    }
}

/// Adds a row of the user to every table that has such rows.
async fn rows_of(store: &Store, user: Uuid) {
    let video = video_id(1);
    store.record(LIKE, user, video).await.unwrap();
    store.record(SKIP, user, video_id(2)).await.unwrap();
    store.add_block(user, &block("x")).await.unwrap();
    let event = NewEvent {
        event_id: Uuid::from_u128(1),
        kind: EventKind::View,
        video,
        model_version: None,
        request_id: None,
        position: None,
        watch_fraction: None,
        at_us: Some(START_US),
    };
    let events = [event];
    let recorded = store.record_events(user, &events, EventPolicy::All);
    recorded.await.unwrap();
    let vectors = vector_rows(&[user]);
    let written = store.write_embeddings(VectorTable::Users, 7, &vectors);
    written.await.unwrap();
}

/// Where a user's id is found in the database.
async fn found(store: &Store, user: Uuid) -> Vec<(String, u64)> {
    let searched = store.search_rows(user, &Source::default()).await.unwrap();
    searched.found
}

async fn rows_of_users_whom_the_backup_erased_are_deleted(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let target = another(store).await;
    with_videos(&target, 3).await;
    let (gone, other) = (user_id(9), user_id(8));
    for user in [gone, other] {
        rows_of(&target, user).await;
    }
    let options = RestoreOptions::default();
    let restored = target.restore(&backup, &options).await.unwrap();
    assert_eq!(
        (restored.erased_deleted, restored.erased_remaining),
        (5, Some(0))
    );
    assert_eq!(found(&target, gone).await, []);
    assert_eq!(found(&target, other).await.len(), 5);
    let again = target.restore(&backup, &options).await.unwrap();
    assert_eq!(again.erased_deleted, 0);
}

async fn rows_in_tables_of_other_names_are_counted(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let target = another(store).await;
    with_videos(&target, 3).await;
    let gone = user_id(9);
    rows_of(&target, gone).await;
    rows_of(&target, user_id(8)).await;
    let options = RestoreOptions {
        source: Source {
            likes: "SELECT user_id, video_id, created_at FROM likes WHERE created_at IS NOT NULL"
                .into(),
            ..Source::default()
        },
        ..RestoreOptions::default()
    };
    let restored = target.restore(&backup, &options).await.unwrap();
    assert_eq!(
        (restored.erased_deleted, restored.erased_remaining),
        (4, Some(1))
    );
    assert_eq!(found(&target, gone).await.len(), 1);
}

/// Whether the file or its log holds the bytes of the id.
fn is_written(file: &Path, id: Uuid) -> bool {
    let log = file.with_extension("db-wal");
    [file.to_owned(), log].iter().any(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(16).any(|window| window == id.as_bytes())
    })
}

/// Deleted rows stay in the free space of an SQLite file until it is rewritten. A restoration can
/// have been interrupted between the two.
#[tokio::test]
async fn a_second_restoration_rewrites_the_file() {
    let origin = database::sqlite().await;
    let (_root, backup) = backup_of(&origin).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("target.db");
    let url = format!("sqlite://{}", file.display());
    let target = Store::connect(&url, ConnectOptions::default());
    let target = target.await.unwrap();
    target.migrate().await.unwrap();
    with_videos(&target, 3).await;
    let gone = user_id(9);
    rows_of(&target, gone).await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let delete = "DELETE FROM likes; DELETE FROM skips; DELETE FROM recommendation_blocks;
                  DELETE FROM twotower_events; DELETE FROM user_embeddings";
    connection.execute(delete).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(found(&target, gone).await, []);
    assert!(is_written(&file, gone));
    let options = RestoreOptions::default();
    let restored = target.restore(&backup, &options).await.unwrap();
    assert_eq!(restored.erased_deleted, 0);
    assert!(!is_written(&file, gone));
    target.close().await;
}

async fn a_backup_without_an_active_version_leaves_readers_theirs(store: &Store) {
    with_videos(store, 1).await;
    assert_eq!(store.next_model_version().await.unwrap(), 1);
    store.register_model(&model(1)).await.unwrap();
    let vectors = vector_rows(&[video_id(1)]);
    let written = store.write_embeddings(VectorTable::Videos, 1, &vectors);
    written.await.unwrap();
    let candidate = store.set_model_state(1, ModelState::Candidate);
    candidate.await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = Backup::open(&back_up(store, root.path()).await).unwrap();
    store.activate_model(&promotion(1)).await.unwrap();
    let before = store.model_details(1).await.unwrap();
    for dry_run in [true, false] {
        let options = RestoreOptions {
            replace: true,
            dry_run,
            ..RestoreOptions::default()
        };
        let restored = store.restore(&backup, &options).await.unwrap();
        assert_eq!(restored.active_version, Some(1));
    }
    let after = store.model_details(1).await.unwrap();
    assert_eq!(after.record.state, ModelState::Active);
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    let refused = store.prune_model(1).await.unwrap_err();
    assert!(matches!(refused, StoreError::ActiveModel(1)), "{refused}");
}
