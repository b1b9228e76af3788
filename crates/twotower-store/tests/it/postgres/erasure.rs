//! Erasures while others write, and under restricted roles and policies.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::time::Duration;
use twotower_store::{
    EmbeddingRow, ErasePlan, InteractionKind, InteractionRow, Source, Store, StoreError,
    VectorTable,
};
use uuid::Uuid;

const ANN: Uuid = Uuid::from_u128(0xaaaa_aaaa << 96);
const PLAN: ErasePlan = ErasePlan {
    likes: true,
    skips: true,
    statements: Vec::new(),
};

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

fn vector(id: Uuid) -> EmbeddingRow<'static> {
    EmbeddingRow {
        id,
        fingerprint: 0,
        vector: &[0.6, 0.8],
    }
}

async fn waits_for_advisory_lock(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    loop {
        let row = connection.fetch_one(waiting).await.unwrap();
        if row.get::<i64, _>(0) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The erasure waits for the running batch, and then deletes its rows.
#[tokio::test]
async fn a_batch_under_way_brings_nobody_back() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    // A batch like an update's, stopped in the middle by a lock on the rows that it writes last.
    let last = Uuid::from_u128(u128::MAX);
    store
        .write_embeddings(VectorTable::Users, 1, &[vector(last)])
        .await
        .unwrap();
    let mut blocker = PgConnection::connect(&url).await.unwrap();
    blocker
        .execute("BEGIN; SELECT FROM user_embeddings FOR UPDATE")
        .await
        .unwrap();
    let rows = [vector(ANN), vector(last)];
    let batch = store.write_embeddings(VectorTable::Users, 1, &rows);
    let erasing = connect(&url).await;
    let erase = async {
        // By now the batch holds its lock.
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let begun = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while connection.fetch_one(begun).await.unwrap().get::<i64, _>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        erasing.erase_user(ANN, &PLAN).await
    };
    let release = async {
        waits_for_advisory_lock(&url).await;
        blocker.execute("COMMIT").await.unwrap();
    };
    let (written, erased, ()) = tokio::join!(batch, erase, release);
    written.unwrap();
    assert_eq!(erased.unwrap().user_vectors, 1, "what the batch wrote");
    let left = store
        .read_fingerprints(VectorTable::Users, 1)
        .await
        .unwrap();
    assert_eq!(left, [(last, 0)]);
}

/// A batch that starts during an erasure waits, and then leaves the user out. Likewise for a like.
#[tokio::test]
async fn a_batch_that_comes_later_brings_nobody_back() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(&url, "INSERT INTO videos (id) VALUES (gen_random_uuid())").await;
    let mut erasing = PgConnection::connect(&url).await.unwrap();
    let erase = format!("BEGIN; SELECT * FROM twotower.erase_user('{ANN}')");
    erasing.execute(AssertSqlSafe(erase)).await.unwrap();
    let rows = [vector(ANN), vector(Uuid::from_u128(1))];
    let batch = store.write_embeddings(VectorTable::Users, 1, &rows);
    let other = connect(&url).await;
    let like = InteractionRow {
        user: ANN,
        video: Uuid::nil(),
        at_us: 1,
    };
    let likes = [like];
    let import = other.write_interactions(InteractionKind::Like, &likes);
    let commit = async {
        waits_for_advisory_lock(&url).await;
        erasing.execute("COMMIT").await.unwrap();
    };
    let (written, imported, ()) = tokio::join!(batch, import, commit);
    written.unwrap();
    assert_eq!(imported.unwrap(), 0);
    let left = store
        .read_fingerprints(VectorTable::Users, 1)
        .await
        .unwrap();
    assert_eq!(left, [(Uuid::from_u128(1), 0)]);
}

/// Many concurrent batches and erasures of the same users.
#[tokio::test]
async fn in_no_order_does_a_vector_survive() {
    let url = postgres_url().await;
    let users: Vec<Uuid> = (1..=20).map(Uuid::from_u128).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for version in 1..=3 {
        let (store, users) = (connect(&url).await, users.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                let rows: Vec<_> = users.iter().map(|&user| vector(user)).collect();
                let written = store.write_embeddings(VectorTable::Users, version, &rows);
                written.await.unwrap();
            }
        });
    }
    let store = connect(&url).await;
    for &user in &users {
        store.erase_user(user, &PLAN).await.unwrap();
    }
    tasks.join_all().await;
    let left = store.count_vectors(VectorTable::Users).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_snapshot_that_stands_still_is_refused() {
    let url = postgres_url().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let frozen = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM twotower.erase_user(gen_random_uuid())";
    let error = connection.execute(frozen).await.unwrap_err();
    assert!(error.to_string().contains("read committed only"), "{error}");
}

/// The application's own tables: text ids, a missing column.
#[tokio::test]
async fn tables_of_the_application_are_emptied_or_it_says_why_not() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(
        &url,
        &format!(
            "DROP POLICY \"twotower: users read own skips\" ON skips;
             DROP POLICY \"twotower: users skip for themselves\" ON skips;
             DROP POLICY \"twotower: users take back own skips\" ON skips;
             ALTER TABLE skips DROP CONSTRAINT skips_pkey, ALTER user_id TYPE text;
             INSERT INTO videos (id) VALUES ('{ANN}');
             INSERT INTO skips SELECT '{ANN}', id FROM videos"
        ),
    )
    .await;
    let erased = store.erase_user(ANN, &PLAN).await.unwrap();
    assert_eq!(erased.skips, 1);
    execute(&url, "ALTER TABLE skips RENAME user_id TO member").await;
    let error = store.erase_user(ANN, &PLAN).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
    assert!(error.to_string().contains("public.skips"), "{error}");
}

/// An owner for whom a policy would hide rows gets an error rather than a partial deletion.
#[tokio::test]
async fn rows_that_a_policy_hides_are_an_error() {
    let url = postgres_url().await;
    let role = format!("twotower_owner_{}", std::process::id());
    execute(
        &url,
        &format!(
            "CREATE ROLE {role}; GRANT ALL ON SCHEMA twotower TO {role};
             GRANT ALL ON likes, skips, user_embeddings TO {role};
             ALTER TABLE twotower.tombstone_salt OWNER TO {role};
             ALTER TABLE twotower.tombstones OWNER TO {role};
             ALTER FUNCTION twotower.erase_user_from(uuid, text[], boolean) OWNER TO {role}"
        ),
    )
    .await;
    let store = connect(&url).await;
    let error = store.erase_user(ANN, &PLAN).await.unwrap_err();
    assert!(matches!(error, StoreError::Permission(_)), "{error}");
    assert!(error.to_string().contains("\"likes\""), "{error}");
    assert!(store.erased_users(&[ANN]).await.unwrap().is_empty());
}

/// As a role that sees everything and owns nothing, and as one without rights.
#[tokio::test]
async fn service_role_erases_and_writes_no_tombstone_by_hand() {
    let url = postgres_url().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("SET ROLE service_role").await.unwrap();
    let erase = format!("SELECT first_time FROM twotower.erase_user('{ANN}')");
    let row = connection.fetch_one(AssertSqlSafe(erase)).await.unwrap();
    assert!(row.get::<bool, _>(0));
    for refused in [
        "INSERT INTO twotower.tombstones (user_hash, erased_at) VALUES (sha256(''), now())",
        "DELETE FROM twotower.tombstones",
        "UPDATE twotower.tombstone_salt SET salt = sha256('')",
    ] {
        let error = connection.execute(refused).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
    let secured = "SELECT prosecdef AND proconfig @> ARRAY['search_path=\"\"', 'row_security=off']
                   FROM pg_proc WHERE oid = 'twotower.erase_user(uuid, boolean)'::regprocedure";
    assert!(
        connection
            .fetch_one(secured)
            .await
            .unwrap()
            .get::<bool, _>(0)
    );
    for role in ["anon", "authenticated", "public"] {
        let may = format!(
            "SELECT has_function_privilege('{role}', 'twotower.erase_user(uuid, boolean)', 'EXECUTE')"
        );
        let row = connection.fetch_one(AssertSqlSafe(may)).await.unwrap();
        assert!(!row.get::<bool, _>(0), "{role}");
    }
}

/// A table that cannot be read is reported, and does not count as free of the id.
#[tokio::test]
async fn a_search_says_what_it_did_not_see() {
    let url = postgres_url().await;
    let role = format!("twotower_searcher_{}", std::process::id());
    let setup = format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA twotower, supabase_migrations TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA public, twotower, supabase_migrations TO {role};
         REVOKE SELECT ON twotower.publisher FROM {role};
         CREATE SCHEMA \"Odd.Place\"; GRANT USAGE ON SCHEMA \"Odd.Place\" TO {role};
         CREATE TABLE \"Odd.Place\".\"it's\" (\"a%b\" bytea, n integer, tags text[]);
         INSERT INTO \"Odd.Place\".\"it's\" VALUES (uuid_send('{ANN}'), 1, ARRAY['x', '{ANN}']);
         GRANT SELECT ON \"Odd.Place\".\"it's\" TO {role}"
    );
    execute(&url, &setup).await;
    let store = connect(&url.replace("postgres@", &format!("{role}@"))).await;
    let seen = store.search_rows(ANN, &Source::default()).await;
    let seen = seen.unwrap();
    assert_eq!(
        seen.found,
        [
            ("Odd.Place.it's.a%b".into(), 1),
            ("Odd.Place.it's.tags".into(), 1)
        ]
    );
    let unseen: Vec<&str> = seen
        .not_searched
        .iter()
        .map(|(table, _)| &**table)
        .collect();
    // Row level security would hide rows of the first from this role.
    assert!(
        unseen.contains(&"public.likes") && unseen.contains(&"twotower.publisher"),
        "{unseen:?}"
    );
    execute(&url, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Tables of other names: columns of video ids are those that the source reads as such, and those
/// that refer to them.
#[tokio::test]
async fn columns_of_videos_are_known_in_tables_of_the_application() {
    let url = postgres_url().await;
    let setup = format!(
        "CREATE TABLE films (code uuid PRIMARY KEY, name text);
         CREATE TABLE favourites (member uuid, film uuid, since timestamptz);
         CREATE TABLE orders (buyer uuid, film uuid REFERENCES films (code));
         INSERT INTO films VALUES ('{ANN}', 'film');
         INSERT INTO favourites VALUES ('{ANN}', '{ANN}', now()), ('{ANN}', gen_random_uuid(), now());
         INSERT INTO orders VALUES ('{ANN}', '{ANN}')"
    );
    execute(&url, &setup).await;
    let store = connect(&url).await;
    let source = Source {
        videos: "SELECT code AS id, name AS title, NULL AS description, NULL AS genre, NULL AS maker, NULL::real AS price,
                        NULL::real AS duration_seconds, NULL::timestamptz AS published_at, NULL AS thumbnail_url FROM films"
            .into(),
        likes: "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites".into(),
        ..Source::default()
    };
    let rows = store.search_rows(ANN, &source).await.unwrap();
    let of_user = [("public.favourites.member", 2), ("public.orders.buyer", 1)];
    assert_eq!(
        rows.found,
        of_user.map(|(column, rows)| (column.to_owned(), rows))
    );
    let of_video = [
        ("public.favourites.film", 1),
        ("public.films.code", 1),
        ("public.orders.film", 1),
    ];
    assert_eq!(
        rows.passed_over,
        of_video.map(|(column, rows)| (column.to_owned(), rows))
    );
    execute(&url, "DELETE FROM orders; DELETE FROM films").await;
    let rows = store.search_rows(ANN, &source).await.unwrap();
    assert!(
        rows.passed_over.is_empty() && rows.found.len() == 2,
        "{rows:?}"
    );
}

/// A table of several kinds, from which a source selects the videos.
#[tokio::test]
async fn a_column_of_several_kinds_is_not_of_videos() {
    let url = postgres_url().await;
    let setup = format!(
        "CREATE TABLE reactions (member uuid, kind text, target uuid, since timestamptz);
         CREATE VIEW hearts AS SELECT * FROM reactions WHERE kind = 'video';
         INSERT INTO reactions VALUES (gen_random_uuid(), 'video', '{ANN}', now()), (gen_random_uuid(), 'user', '{ANN}', now())"
    );
    execute(&url, &setup).await;
    let store = connect(&url).await;
    let vectors = [vector(ANN)];
    let written = store.write_embeddings(VectorTable::Videos, 1, &vectors);
    written.await.unwrap();
    for (rest, passed) in [
        ("reactions WHERE kind = 'video'", false),
        ("hearts", false),
        ("reactions", true),
    ] {
        let likes = format!(
            "SELECT member AS user_id, target AS video_id, since AS created_at FROM {rest}"
        );
        let source = Source {
            likes,
            ..Source::default()
        };
        let rows = store.search_rows(ANN, &source).await.unwrap();
        let places = if passed {
            &rows.passed_over
        } else {
            &rows.found
        };
        assert!(rows.is_video && rows.found.is_empty() == passed, "{rows:?}");
        let place = ("public.reactions.target".to_owned(), 2);
        assert!(places.contains(&place), "{rows:?}");
    }
}

/// Rows are counted in the partitions, whose columns may be in another order.
#[tokio::test]
async fn columns_of_videos_are_known_in_partitions() {
    let url = postgres_url().await;
    let setup = format!(
        "CREATE TABLE favourites (member uuid, film uuid, since timestamptz) PARTITION BY RANGE (since);
         CREATE TABLE favourites_new (since timestamptz, film uuid, member uuid) PARTITION BY RANGE (since);
         CREATE TABLE favourites_last (gone text, film uuid, since timestamptz, member uuid);
         ALTER TABLE favourites_last DROP gone;
         ALTER TABLE favourites_new ATTACH PARTITION favourites_last DEFAULT;
         ALTER TABLE favourites ATTACH PARTITION favourites_new DEFAULT;
         INSERT INTO favourites VALUES (gen_random_uuid(), '{ANN}', now())"
    );
    execute(&url, &setup).await;
    let store = connect(&url).await;
    let vectors = [vector(ANN)];
    let written = store.write_embeddings(VectorTable::Videos, 1, &vectors);
    written.await.unwrap();
    let source = Source {
        likes: "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites"
            .into(),
        ..Source::default()
    };
    let rows = store.search_rows(ANN, &source).await.unwrap();
    assert!(rows.found.is_empty(), "{rows:?}");
    let place = ("public.favourites_last.film".to_owned(), 1);
    assert!(rows.passed_over.contains(&place), "{rows:?}");
    execute(
        &url,
        &format!("UPDATE favourites SET member = '{ANN}', film = NULL"),
    )
    .await;
    let rows = store.search_rows(ANN, &source).await.unwrap();
    assert_eq!(rows.found, [("public.favourites_last.member".into(), 1)]);
}

/// A list of videos is one part of it; the rest is up to its writer.
#[tokio::test]
async fn an_answer_is_passed_over_for_its_list_of_videos_alone() {
    let url = postgres_url().await;
    let listed = format!(r#"{{"recommendations": [{{"video_id": "{ANN}"}}]}}"#);
    let keep = |key: &str, answer: &str| {
        format!(
            "INSERT INTO recommendation_cache (user_id, cache_key, state, answer)
             VALUES (gen_random_uuid(), '{key}', 's', '{answer}')"
        )
    };
    execute(&url, &keep("listed", &listed)).await;
    let store = connect(&url).await;
    let vectors = [vector(ANN)];
    let written = store.write_embeddings(VectorTable::Videos, 1, &vectors);
    written.await.unwrap();
    let source = Source::default();
    let rows = store.search_rows(ANN, &source).await.unwrap();
    let place = ("public.recommendation_cache.answer".to_owned(), 1);
    assert!(rows.found.is_empty(), "{rows:?}");
    assert!(rows.passed_over.contains(&place), "{rows:?}");
    for (key, answer) in [
        ("list", format!(r#"["{ANN}"]"#)),
        (
            "inside",
            listed.replace('[', &format!(r#"["by {}", "#, ANN.simple())),
        ),
        (
            "beside",
            listed.replace('{', &format!(r#"{{"by": "{ANN}", "#)),
        ),
    ] {
        execute(&url, &keep(key, &answer)).await;
    }
    let rows = store.search_rows(ANN, &source).await.unwrap();
    assert_eq!(rows.found, [(place.0.clone(), 3)]);
    assert!(rows.passed_over.contains(&place), "{rows:?}");
}

#[tokio::test]
async fn a_statement_that_cannot_be_run_is_named() {
    let url = postgres_url().await;
    let setup = "CREATE TABLE members (id bigint PRIMARY KEY); INSERT INTO members VALUES (5), (6);
                 CREATE TABLE hearts (member_id bigint REFERENCES members (id)); INSERT INTO hearts VALUES (5), (5), (6)";
    execute(&url, setup).await;
    let store = connect(&url).await;
    let fifth = Uuid::from_u128(0x8000_8000_0000_0000_0005);
    let mapped = |column: &str| {
        format!("('00000000-0000-8000-8000-' || lpad(to_hex({column}), 12, '0'))::uuid = $1")
    };
    let delete_hearts = format!("DELETE FROM hearts WHERE {}", mapped("member_id"));
    let delete_members = format!("DELETE FROM members WHERE {}", mapped("id"));
    for (statements, number, said) in [
        (
            ["DELETE FROM hearts WHERE member_id = $1", &delete_members],
            1,
            "operator does not exist: bigint = uuid",
        ),
        (
            [&*delete_hearts, "DELETE FROM likers WHERE id = $1"],
            2,
            "relation \"likers\" does not exist",
        ),
        (
            [&*delete_members, &*delete_hearts],
            1,
            "violates foreign key constraint",
        ),
    ] {
        let plan = ErasePlan {
            statements: statements.map(str::to_owned).into(),
            ..PLAN
        };
        let error = store.erase_user(fifth, &plan).await.unwrap_err();
        let text = error.to_string();
        let begin = format!("[erase] statements: statement {number} cannot be run: ");
        assert!(text.starts_with(&begin) && text.contains(said), "{text}");
        assert!(
            text.contains("a uuid") && text.contains("lpad(to_hex("),
            "{text}"
        );
        assert!(
            !text.contains("migrate") && !text.contains(" at line "),
            "{text}"
        );
        assert!(error.is_usage() && std::error::Error::source(&error).is_none());
    }
    assert!(store.erased_users(&[fifth]).await.unwrap().is_empty());
    let plan = ErasePlan {
        statements: vec![delete_hearts, delete_members],
        ..PLAN
    };
    let erased = store.erase_user(fifth, &plan).await.unwrap();
    assert_eq!(erased.statements, [2, 1]);
}
