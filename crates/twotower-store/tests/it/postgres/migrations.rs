//! Migrations beside a running application, and one that cannot be applied.

use crate::database::{empty_postgres_url, execute, few_connections};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::time::Duration;
use twotower_store::{Store, StoreError};

/// The first migration that changes the application's table `likes`.
const TRIGGERS: &str = "20261127000000";

const LIKES: &str = "
    CREATE TABLE likes (user_id uuid, video_id uuid, created_at timestamptz DEFAULT now())";

const LIKE: &str =
    "INSERT INTO likes (user_id, video_id) VALUES (gen_random_uuid(), gen_random_uuid())";

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

async fn recorded(connection: &mut PgConnection) -> Vec<String> {
    let record = "SELECT version FROM supabase_migrations.schema_migrations ORDER BY version";
    let rows = connection.fetch_all(record).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until `condition` holds.
async fn wait_for(connection: &mut PgConnection, condition: &str) {
    let waited = async {
        loop {
            let statement = AssertSqlSafe(format!("SELECT {condition}"));
            let row = connection.fetch_one(statement).await.unwrap();
            if row.get(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), waited).await;
    waited.unwrap_or_else(|_| panic!("{condition}"));
}

/// All migrations, and those before `TRIGGERS`.
async fn expected(store: &Store) -> (Vec<String>, usize) {
    let all = store.pending_migrations().await.unwrap();
    let before = all.iter().position(|version| version == TRIGGERS).unwrap();
    assert!(before > 1);
    (all, before)
}

/// A transaction of the application stays open on `likes`. Writers that arrive after the
/// migration's lock request queue behind it, and get through while that transaction is still open.
#[tokio::test]
async fn nobody_waits_for_long_behind_a_migration() {
    let url = empty_postgres_url().await;
    execute(&url, LIKES).await;
    let store = connect(&url).await;
    let (all, before) = expected(&store).await;
    let mut open = PgConnection::connect(&url).await.unwrap();
    open.execute("BEGIN").await.unwrap();
    open.execute(LIKE).await.unwrap();
    let migrating = tokio::spawn(async move { store.migrate().await });

    let mut writer = PgConnection::connect(&url).await.unwrap();
    let waits = "EXISTS (SELECT FROM pg_locks WHERE relation = 'likes'::regclass AND NOT granted)";
    wait_for(&mut writer, waits).await;
    let limit = "SET lock_timeout = '1min'";
    writer.execute(limit).await.unwrap();
    writer.execute(LIKE).await.unwrap();
    assert!(!migrating.is_finished());
    assert_eq!(recorded(&mut writer).await, all[..before]);

    open.execute("COMMIT").await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap(), all);
    assert_eq!(recorded(&mut writer).await, all);
    let (count, triggers) = (
        "SELECT count(*) FROM likes",
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'likes'::regclass",
    );
    let count: i64 = writer.fetch_one(count).await.unwrap().get(0);
    let triggers: i64 = writer.fetch_one(triggers).await.unwrap().get(0);
    assert_eq!((count, triggers), (2, 4));
}

/// Another migrator is waited for without limit, even if the database has a lock timeout.
#[tokio::test]
async fn a_second_migrator_waits_for_the_first() {
    let url = empty_postgres_url().await;
    let limit = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = 100', current_database()); END $$";
    execute(&url, limit).await;
    let store = connect(&url).await;
    let (all, _) = expected(&store).await;
    let mut first = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(x'74776f746f776572'::bigint)";
    first.execute(lock).await.unwrap();
    let migrating = tokio::spawn(async move { store.migrate().await });
    let waits = "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    wait_for(&mut first, waits).await;
    // Longer than the limit.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!migrating.is_finished());
    first.execute("COMMIT").await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap(), all);
}

/// As created by the Python system: without versions, with index names that collide with ours.
const OTHER_VECTORS: [(&str, &str); 2] = [
    ("video_embeddings", "video_id"),
    ("user_embeddings", "user_id"),
];

/// The statements by which docs/deployment.md goes back to the old tables.
fn way_back() -> String {
    let guide = include_str!("../../../../../docs/deployment.md");
    let is_back = |block: &&str| block.contains("two_tower_away") && block.contains("psql");
    let block = guide.split("```").find(is_back).unwrap();
    let statements: Vec<&str> = block.split('\'').skip(1).step_by(2).collect();
    assert_eq!(statements.len(), 5, "{block}");
    statements.join("; ")
}

/// The application goes on with its own tables, then with ours again, which are as they were.
async fn back_and_forth(url: &str, all: &[String]) {
    execute(
        url,
        "INSERT INTO video_embeddings VALUES (gen_random_uuid(), 1, '[0.6, 0.8]', 7)",
    )
    .await;
    let back = way_back();
    execute(url, &back).await;
    execute(
        url,
        "INSERT INTO video_embeddings VALUES ('2', '[1, 0]', now());
         INSERT INTO videos (id) VALUES ('00000000-0000-0000-0000-000000000001');
         INSERT INTO likes (user_id, video_id)
         VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001')",
    )
    .await;
    // The other way round: the schemas exchanged.
    let forth = back
        .replace("two_tower_away", "?")
        .replace("two_tower_python", "two_tower_away")
        .replace('?', "two_tower_python");
    execute(url, &forth).await;
    let store = connect(url).await;
    assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());
    let mut connection = PgConnection::connect(url).await.unwrap();
    assert_eq!(recorded(&mut connection).await, all);
    let both = "SELECT (SELECT count(*) FROM video_embeddings WHERE model_version = 1),
                       (SELECT count(*) FROM two_tower_python.video_embeddings)";
    let counts = connection.fetch_one(both).await.unwrap();
    assert_eq!((counts.get::<i64, _>(0), counts.get::<i64, _>(1)), (1, 2));
}

/// Tables of another system would be taken for ours. Nothing is applied until they are moved as the
/// error advises, and they keep their rows.
#[tokio::test]
async fn vectors_of_another_system_make_room_first() {
    for tables in [&OTHER_VECTORS[..1], &OTHER_VECTORS[1..], &OTHER_VECTORS] {
        let url = empty_postgres_url().await;
        execute(&url, "CREATE EXTENSION vector").await;
        for (table, id) in tables {
            execute(
                &url,
                &format!(
                    "CREATE TABLE {table} ({id} text PRIMARY KEY, embedding vector(2), updated_at timestamptz DEFAULT now());
                     CREATE INDEX {table}_updated_at_idx ON {table} (updated_at);
                     CREATE INDEX {table}_embedding_idx ON {table} USING hnsw (embedding vector_cosine_ops);
                     ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
                     INSERT INTO {table} VALUES ('1', '[1, 0]')"
                ),
            )
            .await;
        }
        let store = connect(&url).await;
        let all = store.pending_migrations().await.unwrap();
        let error = store.migrate().await.unwrap_err();
        assert!(matches!(error, StoreError::OtherVectors { .. }), "{error}");
        assert_eq!(store.pending_migrations().await.unwrap(), all);
        // The statements of the message, verbatim.
        let said = error.to_string();
        let statements = said.split('`').nth(1).unwrap();
        for (table, _) in OTHER_VECTORS {
            let named = tables.iter().any(|(other, _)| *other == table);
            assert_eq!(statements.contains(table), named, "{said}");
        }
        execute(&url, statements).await;
        assert_eq!(store.migrate().await.unwrap(), all);
        let mut connection = PgConnection::connect(&url).await.unwrap();
        // As after a push by the Supabase CLI, which stops at the first statement that needs
        // versions.
        let half_way = format!(
            "DELETE FROM supabase_migrations.schema_migrations WHERE version >= '{TRIGGERS}';
             DROP SCHEMA two_tower_python CASCADE; DROP TABLE video_embeddings, user_embeddings CASCADE;
             CREATE TABLE video_embeddings (video_id text PRIMARY KEY, embedding vector(2), updated_at timestamptz);
             INSERT INTO video_embeddings VALUES ('1', '[1, 0]');
             CREATE TABLE user_embeddings (user_id text PRIMARY KEY, embedding vector(2), updated_at timestamptz);
             INSERT INTO user_embeddings VALUES ('1', '[1, 0]')"
        );
        execute(&url, &half_way).await;
        let said = store.migrate().await.unwrap_err().to_string();
        execute(&url, said.split('`').nth(1).unwrap()).await;
        let applied = store.migrate().await.unwrap();
        assert_eq!(applied[0], "20261124000200");
        assert_eq!(recorded(&mut connection).await, all);
        for (table, _) in tables {
            let count = format!("SELECT count(*) FROM two_tower_python.{table}");
            let count: i64 = connection
                .fetch_one(AssertSqlSafe(count))
                .await
                .unwrap()
                .get(0);
            assert_eq!(count, 1);
        }
        if tables.len() == OTHER_VECTORS.len() {
            back_and_forth(&url, &all).await;
        }
    }
}

/// The first migration that restricts the norm of vectors.
const NORMS: &str = "20261205000000";

/// Vectors that older migrations allowed, and that a server refuses to load, are normalised, with
/// or without partitions, once or repeatedly.
#[tokio::test]
async fn vectors_of_a_norm_that_nobody_reads_are_set_right() {
    let in_parts = "CREATE EXTENSION vector;
        CREATE TABLE video_embeddings (
            video_id uuid, model_version bigint, embedding vector NOT NULL, fingerprint bigint NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (video_id, model_version)
        ) PARTITION BY LIST (model_version);
        CREATE TABLE first_vectors PARTITION OF video_embeddings FOR VALUES IN (1);
        CREATE TABLE other_vectors PARTITION OF video_embeddings DEFAULT;";
    for before in ["CREATE EXTENSION vector", in_parts] {
        let url = empty_postgres_url().await;
        execute(&url, before).await;
        let store = connect(&url).await;
        store.migrate().await.unwrap();
        let undo =
            format!("DELETE FROM supabase_migrations.schema_migrations WHERE version >= '{NORMS}'");
        // Unchanged.
        for table in ["video_embeddings", "user_embeddings"] {
            let wider = format!(
                "ALTER TABLE {table} DROP CONSTRAINT {table}_norm_is_0_999_to_1_001;
                 ALTER TABLE {table} ADD CONSTRAINT {table}_embedding_check CHECK (vector_norm(embedding) BETWEEN 0.99 AND 1.01);
                 INSERT INTO {table} SELECT gen_random_uuid(), version, ARRAY[0.6 * norm, 0.8 * norm]::real[], 7, '2026-01-01'
                 FROM unnest(ARRAY[0.9905, 0.9985, 0.9995, 1, 1.0005, 1.0015, 1.0095]) AS norm, generate_series(1, 2) AS version"
            );
            execute(&url, &wider).await;
        }
        execute(&url, &undo).await;
        let applied = store.migrate().await.unwrap();
        assert_eq!(applied[0], NORMS);
        execute(&url, &undo).await;
        assert_eq!(store.migrate().await.unwrap(), applied);

        let mut connection = PgConnection::connect(&url).await.unwrap();
        for table in ["video_embeddings", "user_embeddings"] {
            let right = format!(
                "(SELECT count(*) = 14 AND count(*) FILTER (WHERE abs(vector_norm(embedding) - 1) < 1e-6) = 10
                     AND bool_and(abs(vector_norm(embedding) - 1) < 0.00051 AND abs(embedding <=> '[0.6, 0.8]') < 1e-6
                                  AND fingerprint = 7 AND updated_at = '2026-01-01')
                 FROM {table})
                 AND (SELECT array_agg(conname || ' ' || convalidated) = ARRAY['{table}_norm_is_0_999_to_1_001 true']
                      FROM pg_constraint WHERE conrelid = '{table}'::regclass AND pg_get_constraintdef(oid) LIKE '%vector_norm%')"
            );
            let statement = AssertSqlSafe(format!("SELECT {right}"));
            let row = connection.fetch_one(statement).await.unwrap();
            assert!(row.get::<bool, _>(0), "{table}, {before}");
            for norm in ["0.9985", "1.0015"] {
                let write =
                    format!("INSERT INTO {table} VALUES (gen_random_uuid(), 1, '[{norm}, 0]', 0)");
                let refused = connection.execute(AssertSqlSafe(write)).await.unwrap_err();
                let bound = "_norm_is_0_999_to_1_001";
                assert!(refused.to_string().contains(bound), "{refused}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_applied_before_a_failure_stays() {
    let url = empty_postgres_url().await;
    // In the way of a table that the migration creates.
    execute(&url, "CREATE VIEW recommendation_blocks AS SELECT 1").await;
    let store = connect(&url).await;
    let (all, before) = expected(&store).await;
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(recorded(&mut connection).await, all[..before]);
    assert_eq!(store.pending_migrations().await.unwrap(), all[before..]);
    execute(&url, "DROP VIEW recommendation_blocks").await;
    assert_eq!(store.migrate().await.unwrap(), all[before..]);
}
