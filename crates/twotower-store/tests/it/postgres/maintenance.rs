//! Maintenance beside a running application, and an index that has grown.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;
use twotower_store::{
    Health, IndexHealth, IndexOutcome, IndexPlan, NewModel, StepLimits, Store, StoreError, Upkeep,
};

const LIMITS: StepLimits = StepLimits {
    lock: Duration::from_millis(100),
    statement: Duration::from_mins(5),
    memory_mb: 64,
};

const TABLE: &str = "public.user_embeddings";

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

/// Random unit vectors as version 1, with an index.
async fn with_index(url: &str, rows: u64, dim: usize) -> Store {
    let store = connect(url).await;
    let model = NewModel {
        version: 1,
        embedding_dim: dim,
        cut_off_us: None,
        snapshot_sha256: "ab".into(),
        hyperparameters: serde_json::json!({}),
        metrics: serde_json::json!({}),
        manifest_sha256: "cd".into(),
        erasures_seen: None,
    };
    store.register_model(&model).await.unwrap();
    // Deterministic.
    execute(
        url,
        &format!(
            "SELECT setseed(0.5);
             INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint)
             SELECT gen_random_uuid(), 1, l2_normalize(numbers::vector), 0
             FROM (SELECT n, array_agg((random() - 0.5)::real) AS numbers
                   FROM generate_series(1, {rows}) AS n, generate_series(1, {dim}) GROUP BY n) AS _"
        ),
    )
    .await;
    let plan = IndexPlan {
        version: 1,
        dim,
        rows,
        memory_cap_mb: 64,
    };
    let built = store.build_vector_index(&plan).await.unwrap();
    assert!(matches!(built, IndexOutcome::Built { .. }));
    store
}

fn the_index(health: &Health) -> IndexHealth {
    let indexes = &health.indexes;
    let index = indexes.iter().find(|index| !index.leftover);
    index.unwrap_or_else(|| panic!("{indexes:?}")).clone()
}

/// Actual size over required size.
fn bloat(index: &IndexHealth) -> f64 {
    index.bytes as f64 / index.needed_bytes.unwrap() as f64
}

#[tokio::test]
async fn heavy_a_new_index_takes_what_its_rows_need() {
    for (rows, dim) in [(3_000, 8), (3_000, 64), (1_000, 300)] {
        let store = with_index(&postgres_url().await, rows, dim).await;
        let index = the_index(&store.health().await.unwrap());
        assert_eq!((index.rows, index.dim, index.valid), (rows, dim, true));
        let bloat = bloat(&index);
        assert!((0.9..1.1).contains(&bloat), "{rows} rows of {dim}: {bloat}");
    }
}

#[tokio::test]
async fn heavy_an_index_that_updates_have_bloated_shrinks() {
    let url = postgres_url().await;
    let store = with_index(&url, 3_000, 32).await;
    // Four nights in which every vector changes, without a vacuum.
    for night in 0..4 {
        execute(
            &url,
            &format!(
                "ALTER TABLE video_embeddings SET (autovacuum_enabled = false);
                 UPDATE video_embeddings SET embedding = l2_normalize(embedding + (SELECT array_agg(
                     (CASE WHEN n % (2 + {night}) = 0 THEN 0.05 ELSE -0.05 END)::real) FROM generate_series(1, 32) AS n)::vector)"
            ),
        )
        .await;
    }
    let bloated = the_index(&store.health().await.unwrap());
    assert!(bloat(&bloated) > 2.0, "{bloated:?}");
    let step = Upkeep::Rebuild {
        index: bloated.clone(),
    };
    store.maintain(&step, LIMITS).await.unwrap();
    let rebuilt = the_index(&store.health().await.unwrap());
    assert!((0.9..1.1).contains(&bloat(&rebuilt)), "{rebuilt:?}");
    assert!(rebuilt.valid && rebuilt.bytes * 2 < bloated.bytes);
}

/// During maintenance no reads and likes of users fail.
#[tokio::test]
async fn heavy_an_application_goes_on_meanwhile() {
    let url = postgres_url().await;
    let store = with_index(&url, 3_000, 32).await;
    execute(
        &url,
        "INSERT INTO videos (id) SELECT video_id FROM video_embeddings LIMIT 100",
    )
    .await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let application = {
        let url = url.clone();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            connection
                .execute("SET statement_timeout = '30s'")
                .await
                .unwrap();
            let mut done = 0;
            while stopped.try_recv().is_err() {
                for statement in [
                    "INSERT INTO likes (user_id, video_id) SELECT gen_random_uuid(), id FROM videos LIMIT 1",
                    "SELECT count(*) FROM video_embeddings WHERE model_version = 1",
                    "UPDATE video_embeddings SET fingerprint = fingerprint + 1
                     WHERE video_id = (SELECT id FROM videos LIMIT 1)",
                ] {
                    connection.execute(statement).await.unwrap();
                }
                done += 1;
            }
            done
        })
    };
    // Short transactions of others are waited for, which takes longer beside other tests.
    let limits = StepLimits {
        lock: Duration::from_secs(20),
        ..LIMITS
    };
    for _ in 0..2 {
        let index = the_index(&store.health().await.unwrap());
        for step in [
            Upkeep::Rebuild { index },
            Upkeep::Vacuum {
                table: "public.video_embeddings".into(),
            },
        ] {
            store.maintain(&step, limits).await.unwrap();
        }
    }
    stop.send(()).unwrap();
    assert!(application.await.unwrap() > 0);
}

#[tokio::test]
async fn who_keeps_a_table_locked_is_given_way_to() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    other
        .execute("BEGIN; LOCK TABLE user_embeddings IN SHARE MODE")
        .await
        .unwrap();
    let step = Upkeep::Vacuum {
        table: TABLE.into(),
    };
    let busy = store.maintain(&step, LIMITS).await.unwrap_err();
    assert!(matches!(busy, StoreError::Busy(_)), "{busy}");
    other.execute("COMMIT").await.unwrap();
    store.maintain(&step, LIMITS).await.unwrap();
}

/// The remnant of an interrupted rebuild is distinguished from an index under construction, and
/// dropped.
#[tokio::test]
async fn heavy_what_a_rebuild_left_is_found_and_dropped() {
    let url = postgres_url().await;
    let store = with_index(&url, 1_000, 8).await;
    // A transaction that has seen the old index blocks the end of the rebuild.
    let mut reader = PgConnection::connect(&url).await.unwrap();
    reader
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM video_embeddings")
        .await
        .unwrap();
    let index = the_index(&store.health().await.unwrap());
    let step = Upkeep::Rebuild {
        index: index.clone(),
    };
    let busy = store.maintain(&step, LIMITS).await.unwrap_err();
    assert!(matches!(busy, StoreError::Busy(_)), "{busy}");
    reader.execute("COMMIT").await.unwrap();
    let health = store.health().await.unwrap();
    let left: Vec<_> = health
        .indexes
        .iter()
        .filter(|index| index.leftover)
        .collect();
    let [leftover] = left[..] else {
        panic!("{health:?}")
    };
    assert!(leftover.name.ends_with("_ccnew"), "{leftover:?}");
    assert!(the_index(&health).valid, "the old one serves on");
    let drop = Upkeep::Drop {
        index: leftover.name.clone(),
    };
    store.maintain(&drop, LIMITS).await.unwrap();
    assert_eq!(store.health().await.unwrap().indexes.len(), 1);
    // An index that is invalid under its own name is rebuilt.
    execute(
        &url,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'video_embeddings_hnsw_1'::regclass",
    )
    .await;
    let index = the_index(&store.health().await.unwrap());
    assert!(!index.valid);
    store
        .maintain(&Upkeep::Rebuild { index }, LIMITS)
        .await
        .unwrap();
    assert!(the_index(&store.health().await.unwrap()).valid);
}

#[tokio::test]
async fn a_role_that_owns_nothing_is_told_so() {
    let url = postgres_url().await;
    let role = format!("twotower_upkeep_{}", std::process::id());
    execute(
        &url,
        &format!("CREATE ROLE {role} LOGIN; GRANT twotower_updater TO {role}"),
    )
    .await;
    let store = connect(&url.replace("postgres@", &format!("{role}@"))).await;
    let health = store.health().await.unwrap();
    assert!(health.tables.len() > 8, "{health:?}");
    assert!(health.tables.iter().all(|table| !table.permitted));
    execute(
        &url,
        &format!("GRANT MAINTAIN ON user_embeddings TO {role}"),
    )
    .await;
    let health = store.health().await.unwrap();
    let permitted: Vec<_> = health
        .tables
        .iter()
        .filter(|table| table.permitted)
        .collect();
    assert_eq!(permitted.len(), 1);
    let step = Upkeep::Vacuum {
        table: TABLE.into(),
    };
    store.maintain(&step, LIMITS).await.unwrap();
    store.close().await;
    execute(&url, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// A partial backup would be worse than none.
#[tokio::test]
async fn rows_that_a_policy_hides_make_no_backup() {
    let url = postgres_url().await;
    let role = format!("twotower_half_{}", std::process::id());
    execute(
        &url,
        &format!("CREATE ROLE {role} LOGIN; GRANT twotower_updater TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA twotower, public TO {role}"),
    )
    .await;
    let store = connect(&url.replace("postgres@", &format!("{role}@"))).await;
    let root = tempfile::tempdir().unwrap();
    let mut writer =
        twotower_store::BackupWriter::create(root.path(), "20260131T033000Z", 1).unwrap();
    let refused = store.back_up(&mut writer, false).await.unwrap_err();
    assert!(
        refused.to_string().contains("row-level security"),
        "{refused}"
    );
    drop(writer);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    store.close().await;
    execute(&url, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
