//! Restoring while others are at work.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;
use twotower_core::feature::Video;
use twotower_store::{
    Activation, ActivationKind, Backup, BackupWriter, EmbeddingRow, ErasePlan, InteractionKind,
    ModelState, NewModel, RestoreOptions, Source, Store, VectorTable,
};
use uuid::Uuid;

const ANN: Uuid = Uuid::from_u128(0xaaaa_aaaa << 96);
const BOB: Uuid = Uuid::from_u128(0xbbbb_bbbb << 96);
const VIDEO: Uuid = Uuid::from_u128(1);
const PLAN: ErasePlan = ErasePlan {
    likes: true,
    skips: true,
    statements: Vec::new(),
};
static OPTIONS: LazyLock<RestoreOptions> = LazyLock::new(RestoreOptions::default);

/// Creates an active version with vectors of one video and two users, and its backup in `root`.
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

/// Waits until a lock of `kind` is waited for.
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
    // Stops the restoration where it writes the vectors of videos.
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

/// There is no deadlock between them.
#[tokio::test]
async fn an_erasure_under_way_is_waited_for() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = backed_up(&store, root.path()).await;
    let mut erasing = PgConnection::connect(&url).await.unwrap();
    // The first lock that an erasure takes.
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

/// A trigger that forbids the deletion, and a row that another session keeps locked.
#[tokio::test]
async fn likes_that_cannot_be_deleted_do_not_stop_a_restoration() {
    let origin = Store::connect(&postgres_url().await, few_connections()).await;
    let origin = origin.unwrap();
    origin.erase_user(ANN, &PLAN).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = backed_up(&origin, root.path()).await;
    let url = postgres_url().await;
    let setup = format!(
        "INSERT INTO videos (id) VALUES ('{VIDEO}');
         INSERT INTO likes (user_id, video_id) VALUES ('{ANN}', '{VIDEO}'), ('{BOB}', '{VIDEO}');
         INSERT INTO skips SELECT * FROM likes;
         INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{ANN}', 'tag', 'x');
         CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'skips stay'; END $$;
         CREATE TRIGGER forbid BEFORE DELETE ON skips FOR EACH ROW EXECUTE FUNCTION forbid()"
    );
    execute(&url, &setup).await;
    let mut blocker = PgConnection::connect(&url).await.unwrap();
    let lock = format!("BEGIN; SELECT FROM likes WHERE user_id = '{ANN}' FOR UPDATE");
    blocker.execute(AssertSqlSafe(lock)).await.unwrap();
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let restored = tokio::time::timeout(Duration::from_mins(1), store.restore(&backup, &OPTIONS));
    let restored = restored.await.expect("it waits for the row").unwrap();
    assert_eq!(
        (restored.erased_deleted, restored.erased_remaining),
        (1, Some(2))
    );
    assert_eq!(users(&store).await, [BOB]);
    blocker.execute("COMMIT").await.unwrap();
    let restored = store.restore(&backup, &OPTIONS).await.unwrap();
    assert_eq!(
        (restored.erased_deleted, restored.erased_remaining),
        (1, Some(1))
    );
}

#[tokio::test]
async fn likes_that_a_restoration_leaves_are_counted_in_every_spelling() {
    let origin = Store::connect(&postgres_url().await, few_connections()).await;
    let origin = origin.unwrap();
    origin.erase_user(ANN, &PLAN).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = backed_up(&origin, root.path()).await;
    let url = postgres_url().await;
    let odd = ANN.to_string().replacen('a', "A", 1);
    let setup = format!(
        "CREATE TABLE favourites (member text, film uuid, since timestamptz DEFAULT now());
         INSERT INTO favourites VALUES ('{odd}', '{VIDEO}'), ('{BOB}', '{VIDEO}'), ('nobody', '{VIDEO}')"
    );
    execute(&url, &setup).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let options = RestoreOptions {
        source: Source {
            likes:
                "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites;"
                    .into(),
            ..Source::default()
        },
        ..RestoreOptions::default()
    };
    let restored = store.restore(&backup, &options).await.unwrap();
    assert_eq!(restored.erased_remaining, Some(1));
}

/// A number that a trainer draws during a restoration is not drawn again.
#[tokio::test]
async fn numbers_of_versions_are_given_once() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let backup = backed_up(&store, root.path()).await;
    let mut trainers = PgConnection::connect(&url).await.unwrap();
    let taking = tokio::spawn(async move {
        let numbers = "SELECT count(*) - count(DISTINCT number)
             FROM (SELECT nextval('twotower.model_versions') AS number FROM generate_series(1, 2000000)) AS _";
        let row = trainers.fetch_one(numbers).await.unwrap();
        row.get::<i64, _>(0)
    });
    while !taking.is_finished() {
        store.restore(&backup, &OPTIONS).await.unwrap();
    }
    assert_eq!(taking.await.unwrap(), 0, "numbers that were given twice");
}
