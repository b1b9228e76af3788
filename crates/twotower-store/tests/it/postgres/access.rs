//! Who may do what, read off the catalogue, so that a new table without a decision fails here.

use crate::database::{execute, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::collections::BTreeMap;

const TABLES: &str = "
    SELECT n.nspname || '.' || relname AS name, relrowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname IN ('public', 'twotower')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1";

/// Verbs on tables, or on a column at least, that a role has.
const PRIVILEGES: &str = "
    SELECT string_agg(verb, ' ' ORDER BY verb) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS verb
    WHERE has_any_column_privilege($1, $2, verb)
    UNION ALL
    SELECT string_agg(verb, ' ' ORDER BY verb) FROM unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS verb
    WHERE has_table_privilege($1, $2, verb)";

#[tokio::test]
async fn every_table_has_row_security_and_no_verb_too_many() {
    let url = postgres_url().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let own = "INSERT SELECT DELETE";
    let expected = BTreeMap::from([
        ("public.likes", own),
        ("public.performers", "SELECT"),
        ("public.recommendation_blocks", own),
        ("public.skips", own),
        ("public.tags", "SELECT"),
        ("public.user_embeddings", "SELECT"),
        ("public.video_embeddings", "SELECT"),
        ("public.video_performers", "SELECT"),
        ("public.video_tags", "SELECT"),
        ("public.videos", "SELECT"),
        ("twotower.active_model", ""),
        ("twotower.change_key", ""),
        ("twotower.events", ""),
        ("twotower.experiments", ""),
        ("twotower.model_activations", ""),
        ("twotower.models", ""),
        ("twotower.publisher", ""),
        ("twotower.tombstone_salt", ""),
        ("twotower.tombstones", ""),
    ]);
    let mut found = BTreeMap::new();
    for table in connection.fetch_all(TABLES).await.unwrap() {
        let name: String = table.get("name");
        assert!(table.get::<bool, _>("relrowsecurity"), "{name}");
        for role in ["anon", "authenticated", "service_role"] {
            let verbs: Vec<Option<String>> = sqlx::query_scalar(PRIVILEGES)
                .bind(role)
                .bind(&name)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            let verbs = verbs.into_iter().flatten().collect::<Vec<_>>().join(" ");
            match role {
                "anon" => assert_eq!(verbs, "", "{name}"),
                // Written by `erase_user` and migrations alone.
                "service_role" if name.contains("tombstone") || name.ends_with("change_key") => {
                    assert_eq!(verbs, "SELECT", "{name}");
                }
                "service_role" => assert_eq!(verbs, "INSERT SELECT UPDATE DELETE", "{name}"),
                _ => {
                    found.insert(name.clone(), verbs);
                }
            }
        }
    }
    let found: BTreeMap<&str, &str> = found
        .iter()
        .map(|(name, verbs)| (&**name, &**verbs))
        .collect();
    assert_eq!(found, expected);
    // The time of a like is not for users to say.
    let column: bool = connection
        .fetch_one(
            "SELECT has_column_privilege('authenticated', 'public.likes', 'created_at', 'INSERT')",
        )
        .await
        .unwrap()
        .get(0);
    assert!(!column);
    for schema in ["twotower", "supabase_migrations"] {
        for role in ["anon", "authenticated"] {
            let usage = format!("SELECT has_schema_privilege('{role}', '{schema}', 'USAGE')");
            let row = connection.fetch_one(AssertSqlSafe(usage)).await.unwrap();
            assert!(!row.get::<bool, _>(0), "{role} {schema}");
        }
    }
}

const ANN: &str = "aaaaaaaa-0000-0000-0000-000000000000";
const BOB: &str = "bbbbbbbb-0000-0000-0000-000000000000";

/// As one user, whatever is tried on another's rows fails or touches nothing.
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
        "SELECT * FROM twotower.erase_user('aaaaaaaa-0000-0000-0000-000000000000')",
    ] {
        let error = connection.execute(refused).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
    // Without a user in the token there is nobody's row.
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
