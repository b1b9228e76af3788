//! What users can do with their own rows and with others'. `supabase::matrix` covers the
//! privileges.

use crate::database::{execute, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

const ANN: &str = "aaaaaaaa-0000-0000-0000-000000000000";
const BOB: &str = "bbbbbbbb-0000-0000-0000-000000000000";

/// As one user, every operation on another's rows fails or affects nothing.
#[tokio::test]
async fn users_reach_their_own_rows_only() {
    let url = postgres_url().await;
    execute(
        &url,
        &format!(
            "INSERT INTO videos (id) SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid FROM generate_series(1, 3) AS n;
             INSERT INTO likes (user_id, video_id) SELECT u, id FROM videos, unnest(ARRAY['{ANN}', '{BOB}']::uuid[]) AS u
             WHERE id < '00000000-0000-0000-0000-000000000003';
             INSERT INTO skips SELECT * FROM likes;
             INSERT INTO user_embeddings (user_id, model_version, embedding, fingerprint)
             SELECT u, 1, '[1]', 0 FROM unnest(ARRAY['{ANN}', '{BOB}']::uuid[]) AS u;
             INSERT INTO recommendation_blocks (user_id, kind, value)
             SELECT u, 'tag', n::text FROM generate_series(1, 2) AS n, unnest(ARRAY['{ANN}', '{BOB}']::uuid[]) AS u"
        ),
    )
    .await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let claims = format!(
        "SELECT set_config('request.jwt.claims', '{{\"sub\": \"{ANN}\"}}', false); SET ROLE authenticated"
    );
    connection.execute(AssertSqlSafe(claims)).await.unwrap();
    for table in ["likes", "skips", "recommendation_blocks", "user_embeddings"] {
        let select =
            format!("SELECT count(*) FILTER (WHERE user_id = '{ANN}'), count(*) FROM {table}");
        let row = connection.fetch_one(AssertSqlSafe(select)).await.unwrap();
        let (own, all): (i64, i64) = (row.get(0), row.get(1));
        assert!(own > 0 && own == all, "{table}: {own} of {all}");
    }
    let video = "video_id) VALUES ('{user}', '00000000-0000-0000-0000-000000000003')";
    for (table, rest) in [
        ("likes", video),
        ("skips", video),
        (
            "recommendation_blocks",
            "kind, value) VALUES ('{user}', 'tag', '3')",
        ),
    ] {
        let insert = |user| format!("INSERT INTO {table} (user_id, {rest}").replace("{user}", user);
        let refused = connection
            .execute(AssertSqlSafe(insert(BOB)))
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("row-level security"),
            "{refused}"
        );
        connection
            .execute(AssertSqlSafe(insert(ANN)))
            .await
            .unwrap();
        let delete = |user| format!("DELETE FROM {table} WHERE user_id = '{user}'");
        let done = connection
            .execute(AssertSqlSafe(delete(BOB)))
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 0);
        let done = connection
            .execute(AssertSqlSafe(delete(ANN)))
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 3);
    }
    for refused in [
        "TRUNCATE likes",
        "UPDATE likes SET created_at = now()",
        "DELETE FROM user_embeddings",
        "SELECT * FROM twotower.models",
        "SELECT nextval('twotower.model_versions')",
        "SELECT * FROM twotower.tombstones",
        "SELECT * FROM twotower.change_key",
        "SELECT * FROM twotower.events",
        "SELECT twotower.user_change_key('aaaaaaaa-0000-0000-0000-000000000000')",
        "SELECT * FROM twotower.user_state('aaaaaaaa-0000-0000-0000-000000000000', 1)",
        "UPDATE recommendation_blocks SET value = 'x'",
        "INSERT INTO recommendation_cache (user_id, cache_key, state, answer) VALUES ('aaaaaaaa-0000-0000-0000-000000000000', 'k', 's', '1')",
        "SELECT * FROM twotower.erase_user('aaaaaaaa-0000-0000-0000-000000000000')",
    ] {
        let error = connection.execute(refused).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
    // Without a user in the token no rows are visible.
    connection
        .execute("SELECT set_config('request.jwt.claims', '', false)")
        .await
        .unwrap();
    let nobody = "SELECT count(*) FROM skips";
    assert_eq!(
        connection.fetch_one(nobody).await.unwrap().get::<i64, _>(0),
        0
    );
}
