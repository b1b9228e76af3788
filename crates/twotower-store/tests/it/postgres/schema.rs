//! Migrations: once, twice, concurrently, over existing tables, and with pgvector in any schema.

use crate::database::{empty_postgres_url, execute, few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::fs;
use std::path::Path;
use twotower_core::feature::Video;
use twotower_store::{
    EmbeddingRow, IndexOutcome, IndexPlan, InteractionKind, SnapshotOptions, Source, Store,
    VectorTable, VideoColumn, VideosWritten,
};
use uuid::Uuid;

/// Version and text of each file in the folder, oldest first.
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../supabase/migrations");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (version, _) = name.split_once('_').unwrap();
            (version.to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

async fn scalar<T>(url: &str, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = connection.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn the_folder_is_what_is_applied() {
    let store = connect(&empty_postgres_url().await).await;
    let versions: Vec<String> = files().into_iter().map(|(version, _)| version).collect();
    assert_eq!(store.pending_migrations().await.unwrap(), versions);
    assert_eq!(store.migrate().await.unwrap(), versions);
    assert!(store.pending_migrations().await.unwrap().is_empty());
}

#[tokio::test]
async fn many_migrators_at_once_apply_each_migration_once() {
    let url = empty_postgres_url().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = url.clone();
        tasks.spawn(async move { connect(&url).await.migrate().await.unwrap() });
    }
    let applied = tasks.join_all().await.concat();
    assert_eq!(applied.len(), files().len());
}

#[tokio::test]
async fn applying_everything_again_does_no_harm() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let video = Video {
        id: Uuid::from_u128(1),
        ..Video::default()
    };
    store.write_videos(&[video]).await.unwrap();
    let like = InteractionKind::Like;
    let (user, video) = (Uuid::from_u128(2), Uuid::from_u128(1));
    store.record(like, user, video).await.unwrap();
    let policies = "SELECT count(*) FROM pg_policies";
    let before: i64 = scalar(&url, policies).await;
    for _ in 0..2 {
        for (_, sql) in files() {
            execute(&url, &sql).await;
        }
    }
    assert_eq!(scalar::<i64>(&url, policies).await, before);
    assert!(!store.record(like, user, video).await.unwrap());
}

/// The Supabase CLI and twotower share one record.
#[tokio::test]
async fn what_the_supabase_cli_applied_is_not_applied_again() {
    let url = empty_postgres_url().await;
    execute(
        &url,
        "CREATE SCHEMA supabase_migrations; CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY)",
    )
    .await;
    for (version, sql) in &files()[..2] {
        execute(&url, sql).await;
        let record =
            format!("INSERT INTO supabase_migrations.schema_migrations VALUES ('{version}')");
        execute(&url, &record).await;
    }
    let applied = connect(&url).await.migrate().await.unwrap();
    let rest: Vec<String> = files()
        .into_iter()
        .skip(2)
        .map(|(version, _)| version)
        .collect();
    assert_eq!(applied, rest);
    let recorded = "SELECT bool_and(cardinality(statements) > 0 AND name <> '')
                    FROM supabase_migrations.schema_migrations WHERE version >= '20261124000200'";
    assert!(scalar::<bool>(&url, recorded).await);
}

/// Existing tables of an application keep their types, row security and grants.
#[tokio::test]
async fn tables_of_the_application_stay_as_they_are() {
    let url = empty_postgres_url().await;
    execute(
        &url,
        "CREATE TABLE videos (id uuid PRIMARY KEY, title text, description text, genre text, maker text, price numeric(10, 2),
                              duration_seconds integer, thumbnail_url text, published_at timestamp, studio_secret text);
         CREATE TABLE likes (id bigserial PRIMARY KEY, user_id uuid, video_id uuid, created_at timestamptz DEFAULT now());
         INSERT INTO videos (id, price, duration_seconds, published_at)
         VALUES ('00000000-0000-0000-0000-000000000001', 9.99, 60, '2026-01-01');
         INSERT INTO likes (user_id, video_id)
         SELECT '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001' FROM generate_series(1, 2)",
    )
    .await;
    let store = connect(&url).await;
    store.migrate().await.unwrap();
    let secured = "SELECT count(*) FROM pg_class WHERE relname IN ('videos', 'likes') AND relnamespace = 'public'::regnamespace
                   AND (relrowsecurity OR relacl IS NOT NULL)";
    assert_eq!(scalar::<i64>(&url, secured).await, 0);
    let snapshot = store
        .read_snapshot(&Source::default(), SnapshotOptions::default())
        .await
        .unwrap();
    let video = snapshot.dataset.catalogue.video(0);
    assert_eq!(
        (video.price, video.duration_seconds),
        (Some(9.99), Some(60.0))
    );
    assert_eq!(video.published_at_us, Some(1_767_225_600_000_000));
    assert_eq!(snapshot.dataset.likes.len(), 1);
    // Cards and change detection can read its types too.
    let cards = store.video_cards(&[Uuid::from_u128(1)]).await.unwrap();
    assert_eq!(cards[0].price, Some(9.99));
    let written = store.write_videos(&[video.to_video()]).await.unwrap();
    assert_eq!(written, VideosWritten::default());
}

/// Rust represents a price with 24 bits, and no infinite time: writing other columns must not write
/// these back.
#[tokio::test]
async fn columns_that_are_not_written_keep_what_only_the_database_can_hold() {
    let url = empty_postgres_url().await;
    execute(
        &url,
        "CREATE TABLE videos (id uuid PRIMARY KEY, title text, description text, genre text, maker text NOT NULL, price numeric(12, 2),
                              duration_seconds integer, thumbnail_url text, published_at timestamp);
         INSERT INTO videos (id, title, maker, price, published_at)
         VALUES ('00000000-0000-0000-0000-000000000001', 'old', 'studio', 12345678.91, 'infinity')",
    )
    .await;
    let store = connect(&url).await;
    store.migrate().await.unwrap();
    let video = Video {
        id: Uuid::from_u128(1),
        title: "new".into(),
        ..Video::default()
    };
    let title = [VideoColumn::Title].into_iter().collect();
    let written = store.write_video_columns(title, &[video]).await.unwrap();
    assert_eq!(written.updated, 1);
    let row =
        "SELECT concat_ws(' ', title, description IS NULL, maker, price, published_at) FROM videos";
    assert_eq!(
        scalar::<String>(&url, row).await,
        "new t studio 12345678.91 infinity"
    );
}

/// Public, `extensions` in the default `search_path` as on Supabase, or a schema outside of any.
#[tokio::test]
async fn pgvector_may_live_anywhere() {
    for (prepare, expected) in [
        ("SELECT 1", "public"),
        ("CREATE SCHEMA extensions", "public"),
        (
            "CREATE SCHEMA extensions;
             DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET search_path = \"$user\", public, extensions', current_database());
             END $$",
            "extensions",
        ),
        (
            "CREATE SCHEMA \"Odd Place\"; CREATE EXTENSION vector WITH SCHEMA \"Odd Place\"",
            "Odd Place",
        ),
    ] {
        let url = empty_postgres_url().await;
        execute(&url, prepare).await;
        let store = connect(&url).await;
        store.migrate().await.unwrap();
        let place = "SELECT nspname::text FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'";
        assert_eq!(scalar::<String>(&url, place).await, expected);
        let rows = [EmbeddingRow {
            id: Uuid::from_u128(1),
            fingerprint: 1,
            vector: &[0.6, 0.8],
        }];
        let table = VectorTable::Videos;
        store.write_embeddings(table, 1, &rows).await.unwrap();
        let (_, vectors) = store.read_embeddings(table, 1, 2).await.unwrap();
        assert_eq!(vectors.row(0), [0.6, 0.8]);
        store.build_vector_index(&index(1, 2)).await.unwrap();
    }
}

fn index(version: i64, dim: usize) -> IndexPlan {
    IndexPlan {
        version,
        dim,
        rows: 1_000_000,
        memory_cap_mb: 70,
    }
}

#[tokio::test]
async fn the_index_of_a_version_is_used() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let vectors: Vec<[f32; 3]> = (0..500)
        .map(|n| {
            let (sin, cos) = (n as f32).sin_cos();
            [sin * 0.6, cos * 0.6, 0.8]
        })
        .collect();
    let rows: Vec<_> = vectors
        .iter()
        .zip(1..)
        .map(|(vector, n)| EmbeddingRow {
            id: Uuid::from_u128(n),
            fingerprint: 0,
            vector,
        })
        .collect();
    for version in [1, 2] {
        store
            .write_embeddings(VectorTable::Videos, version, &rows)
            .await
            .unwrap();
    }
    let built = store.build_vector_index(&index(2, 3)).await.unwrap();
    let memory = "70MB".to_owned();
    assert_eq!(built, IndexOutcome::Built { memory });
    let again = store.build_vector_index(&index(2, 3)).await.unwrap();
    assert_eq!(again, IndexOutcome::Present);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection
        .execute("SET enable_seqscan = off; SET enable_sort = off")
        .await
        .unwrap();
    let plan = connection
        .fetch_all(
            "EXPLAIN SELECT video_id FROM video_embeddings WHERE model_version = 2
             ORDER BY embedding::vector(3) <#> '[1, 0, 0]' LIMIT 5",
        )
        .await
        .unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(
        plan.concat().contains("video_embeddings_hnsw_2"),
        "{plan:#?}"
    );
    // It is dropped with its version.
    assert!(!store.drop_vector_index(1).await.unwrap());
    assert!(store.drop_vector_index(2).await.unwrap());
    assert!(!store.drop_vector_index(2).await.unwrap());
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'video_embeddings_hnsw%'";
    assert_eq!(scalar::<i64>(&url, left).await, 0);
}

/// Rust refuses them first; the database does so for other writers.
#[tokio::test]
async fn the_database_refuses_what_is_no_embedding() {
    let url = postgres_url().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for vector in ["[NaN, 1]", "[Infinity, 1]", "[1, 1]", "[0, 0]", "[]"] {
        let insert = format!(
            "INSERT INTO user_embeddings (user_id, model_version, embedding, fingerprint)
             VALUES (gen_random_uuid(), 1, '{vector}', 0)"
        );
        assert!(
            connection.execute(AssertSqlSafe(insert)).await.is_err(),
            "{vector}"
        );
    }
    for time in [
        "'infinity'",
        "'2106-02-07 06:28:16Z'",
        "'1969-12-31 23:59:59Z'",
    ] {
        let insert = format!(
            "INSERT INTO videos (id) VALUES ('00000000-0000-0000-0000-000000000001') ON CONFLICT DO NOTHING;
             INSERT INTO likes VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000001', {time})"
        );
        assert!(
            connection.execute(AssertSqlSafe(insert)).await.is_err(),
            "{time}"
        );
    }
}

/// A killed build leaves an unusable index that blocks the next one.
#[tokio::test]
async fn an_invalid_index_is_built_afresh() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let rows = [EmbeddingRow {
        id: Uuid::from_u128(1),
        fingerprint: 0,
        vector: &[0.6, 0.8],
    }];
    let table = VectorTable::Videos;
    store.write_embeddings(table, 1, &rows).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // One vector of another dimension makes the build fail midway, like a kill.
    let odd = "INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint)
               VALUES ('00000000-0000-0000-0000-000000000002', 1, '[0, 0, 1]', 0)";
    connection.execute(odd).await.unwrap();
    assert!(store.build_vector_index(&index(1, 2)).await.is_err());
    let valid =
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'video_embeddings_hnsw_1'::regclass";
    assert!(!scalar::<bool>(&url, valid).await);
    let even = "DELETE FROM video_embeddings WHERE fingerprint = 0 AND embedding = '[0, 0, 1]'";
    connection.execute(even).await.unwrap();
    let built = store.build_vector_index(&index(1, 2)).await.unwrap();
    assert!(matches!(built, IndexOutcome::Built { .. }));
    assert!(scalar::<bool>(&url, valid).await);
}

/// The database refuses such rows, so its constraint is dropped here; the check before an
/// activation does not rely on it.
#[tokio::test]
async fn vectors_of_a_wrong_norm_are_counted() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(
        &url,
        "ALTER TABLE user_embeddings DROP CONSTRAINT user_embeddings_norm_is_0_999_to_1_001;
         INSERT INTO user_embeddings (user_id, model_version, embedding, fingerprint)
         SELECT gen_random_uuid(), 1, vector::vector, 0 FROM unnest(ARRAY['[1, 1]', '[0, 1]', '[0, 0]', '[1, 0, 0]', '[3e38, 3e38]', '[1.0009, 0]', '[1.0011, 0]']) AS vector",
    )
    .await;
    let summary = store
        .summarize_vectors(VectorTable::Users, 1, 2)
        .await
        .unwrap();
    assert_eq!((summary.rows, summary.wrong_dimension), (7, 1));
    assert_eq!((summary.not_finite, summary.wrong_norm), (0, 4));
}
