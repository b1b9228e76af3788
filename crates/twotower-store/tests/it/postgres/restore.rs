//! Restoring on a server where others are at work.

use crate::database::{few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::path::Path;
use std::time::Duration;
use twotower_core::feature::Video;
use twotower_store::{
    Activation, ActivationKind, Backup, BackupWriter, EmbeddingRow, ErasePlan, InteractionKind,
    ModelState, NewModel, RestoreOptions, Store, VectorTable,
};
use uuid::Uuid;

const ANN: Uuid = Uuid::from_u128(0xaaaa_aaaa << 96);
const BOB: Uuid = Uuid::from_u128(0xbbbb_bbbb << 96);
const VIDEO: Uuid = Uuid::from_u128(1);
const PLAN: ErasePlan = ErasePlan {
    application_tables: true,
    statements: Vec::new(),
};
static OPTIONS: RestoreOptions = RestoreOptions {
    replace: false,
    dry_run: false,
    by: String::new(),
    reason: String::new(),
};

/// An active version with vectors of one video and two users, and a backup of it in `root`.
async fn backed_up(store: &Store, root: &Path) -> Backup {
    let video = Video {
        id: VIDEO,
        ..Video::default()
    };
    store.write_videos(&[video]).await.unwrap();
    let version = store.next_model_version().await.unwrap();
    let model = NewModel {
        version,
        embedding_dim: 2,
        cut_off_us: None,
        snapshot_sha256: "ab".into(),
        hyperparameters: serde_json::json!({}),
        metrics: serde_json::json!({}),
        manifest_sha256: "cd".into(),
        erasures_seen: Some(0),
    };
    store.register_model(&model).await.unwrap();
    let row = |id| EmbeddingRow {
        id,
        fingerprint: 0,
        vector: &[0.6, 0.8],
    };
    for (table, rows) in [
        (VectorTable::Videos, vec![row(VIDEO)]),
        (VectorTable::Users, vec![row(ANN), row(BOB)]),
    ] {
        let written = store.write_embeddings(table, version, &rows);
        written.await.unwrap();
    }
    let complete = store.set_model_state(version, ModelState::Candidate);
    complete.await.unwrap();
    let activation = Activation {
        version,
        kind: ActivationKind::Promotion,
        by: "ann".into(),
        reason: "test".into(),
        forced: false,
    };
    store.activate_model(&activation).await.unwrap();
    let mut writer = BackupWriter::create(root, "20260131T033000Z", 1).unwrap();
    let moment = store.back_up(&mut writer, true).await.unwrap();
    let folder = store.finish_backup(writer, &moment).unwrap().0;
    Backup::open(&folder).unwrap()
}

/// Until somebody waits for a lock of `kind`.
async fn waited_for(url: &str, kind: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let waiting = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = '{kind}' AND NOT granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    loop {
        let row = connection.fetch_one(AssertSqlSafe(waiting.as_str())).await;
        if row.unwrap().get::<i64, _>(0) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn users(store: &Store) -> Vec<Uuid> {
    let rows = store.read_fingerprints(VectorTable::Users, 1).await;
    rows.unwrap().into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn erasures_and_likes_do_not_wait_for_the_vectors_of_videos() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = backed_up(&store, root.path()).await;
    // Stops the restoration where it has the vectors of videos to write.
    let mut blocker = PgConnection::connect(&url).await.unwrap();
    blocker
        .execute("BEGIN; LOCK TABLE video_embeddings IN SHARE MODE")
        .await
        .unwrap();
    let other = Store::connect(&url, few_connections()).await.unwrap();
    let meanwhile = async {
        waited_for(&url, "relation").await;
        let done = async {
            other.erase_user(ANN, &PLAN).await.unwrap();
            other.record(InteractionKind::Like, BOB, VIDEO).await
        };
        let done = tokio::time::timeout(Duration::from_secs(30), done).await;
        blocker.execute("COMMIT").await.unwrap();
        assert!(done.expect("they wait for the restoration").unwrap());
    };
    let (restored, ()) = tokio::join!(store.restore(&backup, &OPTIONS), meanwhile);
    assert_eq!(restored.unwrap().erased_left_out, 1);
    assert_eq!(users(&store).await, [BOB]);
    assert_eq!(store.erased_users(&[ANN, BOB]).await.unwrap(), [ANN]);
}

/// Neither waits for the other in a circle.
#[tokio::test]
async fn an_erasure_under_way_is_waited_for() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = backed_up(&store, root.path()).await;
    let mut erasing = PgConnection::connect(&url).await.unwrap();
    // The lock that an erasure takes first of all.
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(7310012293695300979)";
    erasing.execute(lock).await.unwrap();
    let erase = async {
        waited_for(&url, "advisory").await;
        let rest = format!("SELECT * FROM twotower.erase_user('{ANN}'); COMMIT");
        erasing.execute(AssertSqlSafe(rest)).await.unwrap();
    };
    let (restored, ()) = tokio::join!(store.restore(&backup, &OPTIONS), erase);
    assert_eq!(restored.unwrap().erased_left_out, 1);
    assert_eq!(users(&store).await, [BOB]);
}
