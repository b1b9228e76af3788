//! Every SQL statement of the deployment guide that twotower replaces, verbatim, and every one of
//! our own guide.

use crate::database::{few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::path::Path;
use twotower_store::{EmbeddingRow, Store, VectorTable};
use uuid::Uuid;

const STATEMENTS: [&str; 16] = [
    "CREATE EXTENSION IF NOT EXISTS vector;",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_video_embeddings_updated_at 
ON video_embeddings(updated_at);",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_user_embeddings_updated_at 
ON user_embeddings(updated_at);",
    "SELECT schemaname, tablename, rowsecurity 
FROM pg_tables 
WHERE schemaname = 'public' 
AND tablename IN ('video_embeddings', 'user_embeddings');",
    "VACUUM ANALYZE video_embeddings;",
    "VACUUM ANALYZE user_embeddings;",
    "ANALYZE video_embeddings;",
    "ANALYZE user_embeddings;",
    "DELETE FROM user_embeddings 
WHERE updated_at < NOW() - INTERVAL '30 days'
AND user_id NOT IN (
    SELECT user_id FROM likes 
    WHERE created_at > NOW() - INTERVAL '7 days'
);",
    "SELECT vector_dims(embedding) FROM video_embeddings LIMIT 1;",
    "SELECT COUNT(*) FROM likes WHERE created_at > NOW() - INTERVAL '6 months';",
    "SELECT COUNT(DISTINCT user_id) FROM likes;",
    "SELECT COUNT(DISTINCT video_id) FROM likes;",
    "ALTER TABLE user_embeddings ENABLE ROW LEVEL SECURITY;",
    "ALTER TABLE video_embeddings ENABLE ROW LEVEL SECURITY;",
    "CREATE POLICY \"Users can read own embeddings\" ON user_embeddings
FOR SELECT USING (auth.uid()::text = user_id);",
];

/// Our guide, relative to this crate.
const GUIDE: &str = "../../docs/deployment.md";

/// Statements of the SQL blocks of our guide, without comments.
fn documented() -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE);
    let guide = std::fs::read_to_string(guide).unwrap();
    let blocks = guide.split("```sql\n").skip(1);
    let sql: String = blocks.filter_map(|rest| rest.split("```").next()).collect();
    let lines = sql.lines().filter(|line| !line.starts_with("--"));
    let sql = lines.collect::<Vec<_>>().join("\n");
    let statements = sql.split_inclusive(';').map(|one| one.trim().to_owned());
    statements.filter(|one| !one.is_empty()).collect()
}

#[tokio::test]
async fn every_statement_runs_unchanged() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let users = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
    let rows = users.map(|id| EmbeddingRow {
        id,
        fingerprint: 0,
        vector: &[0.6, 0.8],
    });
    for table in [VectorTable::Users, VectorTable::Videos] {
        store.write_embeddings(table, 1, &rows).await.unwrap();
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // User 3 is old and without recent likes; user 2 is old with recent likes.
    connection
        .execute(
            "UPDATE user_embeddings SET updated_at = now() - interval '31 days'
             WHERE user_id <> '00000000-0000-0000-0000-000000000001';
             INSERT INTO videos (id) VALUES ('00000000-0000-0000-0000-000000000009');
             INSERT INTO likes (user_id, video_id)
             VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000009')",
        )
        .await
        .unwrap();
    let documented = documented();
    let statements = STATEMENTS.map(ToOwned::to_owned);
    // The first of the two creates the policy.
    let ours = documented
        .iter()
        .filter(|one| !one.starts_with("CREATE POLICY"));
    for statement in statements.iter().chain(ours) {
        // For operators who create these before the migrations do.
        let path = if statement.starts_with("CREATE TABLE") {
            "CREATE SCHEMA IF NOT EXISTS own; SET search_path = own"
        } else {
            "RESET search_path"
        };
        connection.execute(path).await.unwrap();
        let rows = connection
            .fetch_all(AssertSqlSafe(statement.clone()))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        if statement.starts_with("SELECT schemaname") {
            assert_eq!(rows.len(), 2);
            assert!(rows.iter().all(|row| row.get::<bool, _>("rowsecurity")));
        }
        if statement.starts_with("SELECT vector_dims") {
            assert_eq!(rows[0].get::<i32, _>(0), 2);
        }
    }
    let left = store
        .read_fingerprints(VectorTable::Users, 1)
        .await
        .unwrap();
    assert_eq!(left, [(users[0], 0), (users[1], 0)]);

    let one_line = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
    let documented: Vec<_> = documented.iter().map(|one| one_line(one)).collect();
    for statement in STATEMENTS {
        let statement = one_line(statement);
        assert!(documented.contains(&statement), "{GUIDE} lacks {statement}");
    }

    // The clean-up for likes with text user ids: old vectors are deleted unless their user has
    // liked something recently.
    let clean_up = STATEMENTS
        .into_iter()
        .find(|one| one.starts_with("DELETE FROM user_embeddings"));
    connection
        .execute(
            "UPDATE user_embeddings SET updated_at = now() - interval '31 days';
             DROP TABLE likes;
             CREATE TABLE likes (user_id text, video_id uuid, created_at timestamptz DEFAULT now());
             INSERT INTO likes VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000009')",
        )
        .await
        .unwrap();
    let clean_up = clean_up.unwrap();
    let plan = format!("EXPLAIN {clean_up}");
    let plan = connection.fetch_all(AssertSqlSafe(plan)).await.unwrap();
    let plan: Vec<&str> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.concat().contains("hashed SubPlan"), "{plan:?}");
    connection.execute(clean_up).await.unwrap();
    let left = store
        .read_fingerprints(VectorTable::Users, 1)
        .await
        .unwrap();
    assert_eq!(left, [(users[1], 0)]);

    // With only the guide's policy, each user sees their own vector and no other.
    connection
        .execute(
            "DROP POLICY \"twotower: users read their own vector\" ON user_embeddings;
             SELECT set_config('request.jwt.claims', '{\"sub\": \"00000000-0000-0000-0000-000000000002\"}', false);
             SET ROLE authenticated",
        )
        .await
        .unwrap();
    let seen = connection
        .fetch_all("SELECT user_id FROM user_embeddings")
        .await
        .unwrap();
    let seen: Vec<Uuid> = seen.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, [users[1]]);
}
