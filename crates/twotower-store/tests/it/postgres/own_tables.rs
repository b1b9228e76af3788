//! Tables that the application created before us, without our types and keys.

mod erasures;
mod text_ids;
mod times;

use crate::database::{empty_postgres_url, execute, postgres_url};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use twotower_core::feature::{Video, VideoRef};
use twotower_store::inspection::Fault;
use twotower_store::{
    ConnectOptions, EventKind, EventPolicy, InteractionKind, InteractionRow, NewEvent,
    SnapshotOptions, Source, Store, VideosWritten,
};
use uuid::Uuid;

const LIKE: InteractionKind = InteractionKind::Like;
const START_US: i64 = 1_767_225_600_000_000;

/// A migrated database in which `prepare` ran first.
async fn over(prepare: &str) -> (String, Store) {
    let url = empty_postgres_url().await;
    execute(&url, prepare).await;
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    (url, store)
}

async fn text(url: &str, sql: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = connection.fetch_one(AssertSqlSafe(sql)).await.unwrap();
    row.get(0)
}

/// Number of rows, and of distinct pairs of user and video.
async fn rows_and_pairs(url: &str, table: &str) -> String {
    let sql =
        format!("SELECT concat(count(*), ' ', count(DISTINCT (user_id, video_id))) FROM {table}");
    text(url, &sql).await
}

fn video(n: u128) -> Video {
    Video {
        id: Uuid::from_u128(n),
        ..Video::default()
    }
}

fn row(user: u128, video: u128) -> InteractionRow {
    InteractionRow {
        user: Uuid::from_u128(100 + user),
        video: Uuid::from_u128(video),
        at_us: START_US + video as i64,
    }
}

fn event(id: u128, kind: EventKind, video: u128) -> NewEvent {
    NewEvent {
        event_id: Uuid::from_u128(id),
        kind,
        video: Uuid::from_u128(video),
        watch_fraction: None,
        model_version: None,
        request_id: None,
        position: None,
        at_us: None,
    }
}

/// `likes` and `skips` without a key, with ids of this type.
fn keyless(id: &str, index: &str) -> String {
    format!(
        "CREATE TABLE likes (id bigserial PRIMARY KEY, user_id {id}, video_id {id}, created_at timestamptz DEFAULT now());
         CREATE TABLE skips (LIKE likes INCLUDING ALL); {index}"
    )
}

#[tokio::test]
async fn a_pair_comes_once_though_no_key_sees_to_it() {
    for (id, index) in [
        ("uuid", ""),
        ("uuid", "CREATE INDEX ON likes (user_id)"),
        // A partial key, one with more columns and one with fewer do not count.
        (
            "uuid",
            "CREATE UNIQUE INDEX ON likes (user_id, video_id) WHERE created_at < '2000-01-01';
             CREATE UNIQUE INDEX ON likes (user_id, video_id, id)",
        ),
        ("text", "CREATE INDEX ON likes (user_id, video_id)"),
        ("varchar(40)", ""),
        // With a key everything is as usual.
        ("uuid", "CREATE UNIQUE INDEX ON likes (video_id, user_id)"),
    ] {
        let (url, store) = over(&keyless(id, index)).await;
        let videos: Vec<Video> = (1..=9).map(video).collect();
        store.write_videos(&videos).await.unwrap();
        let rows = [row(1, 1), row(2, 1), row(1, 2)];
        for new in [3, 0] {
            assert_eq!(store.write_interactions(LIKE, &rows).await.unwrap(), new);
        }
        let more = [row(1, 1), row(3, 1)];
        assert_eq!(store.write_interactions(LIKE, &more).await.unwrap(), 1);
        let user = row(1, 1).user;
        for (n, new) in [(1, false), (3, true), (3, false)] {
            let video = Uuid::from_u128(n);
            assert_eq!(store.record(LIKE, user, video).await.unwrap(), new, "{n}");
        }
        let events = [
            event(1, EventKind::Like, 3),
            event(2, EventKind::Like, 4),
            event(3, EventKind::Skip, 5),
        ];
        for _ in 0..2 {
            let done = store.record_events(user, &events, EventPolicy::None).await;
            assert_eq!(done.unwrap().accepted, 3);
        }
        assert_eq!(rows_and_pairs(&url, "likes").await, "6 6", "{id} {index}");
        assert_eq!(rows_and_pairs(&url, "skips").await, "1 1", "{id} {index}");
    }
}

#[tokio::test]
async fn a_pair_comes_once_though_many_write_it_at_once() {
    let (url, store) = over(&keyless("uuid", "")).await;
    store.write_videos(&[video(1), video(2)]).await.unwrap();
    let user = row(1, 1).user;
    let recorded = join_all((0..8).map(|_| store.record(LIKE, user, Uuid::from_u128(1)))).await;
    let new = recorded.into_iter().filter(|new| *new.as_ref().unwrap());
    assert_eq!(new.count(), 1);
    let rows: Vec<_> = (0..500).map(|user| row(user, 2)).collect();
    let (one, other, recorded) = tokio::join!(
        store.write_interactions(LIKE, &rows),
        store.write_interactions(LIKE, &rows),
        store.record(LIKE, user, Uuid::from_u128(2)),
    );
    let recorded = u64::from(recorded.unwrap());
    assert_eq!(one.unwrap() + other.unwrap() + recorded, 500);
    assert_eq!(rows_and_pairs(&url, "likes").await, "501 501");
}

#[tokio::test]
async fn a_pair_that_is_there_twice_counts_once() {
    let (url, store) = over(&keyless("uuid", "")).await;
    store.write_videos(&[video(1), video(2)]).await.unwrap();
    let user = row(1, 1).user;
    let rows = "VALUES (1, interval '0 s'), (2, interval '1 s'), (1, interval '2 s')";
    for table in ["likes", "skips"] {
        let insert = format!(
            "INSERT INTO {table} (user_id, video_id, created_at)
             SELECT '{user}', ('00000000-0000-0000-0000-00000000000' || n)::uuid, '2026-01-01'::timestamptz + later FROM ({rows}) AS rows (n, later)"
        );
        execute(&url, &insert).await;
    }
    let videos = [1, 2].map(Uuid::from_u128);
    let state = store.user_state(user, 9).await.unwrap();
    assert_eq!((state.likes, state.skips), (videos.into(), videos.into()));
    let history = store.user_history(user, 9).await.unwrap();
    assert_eq!(
        (history.likes, history.skips),
        (videos.into(), videos.into())
    );
    assert_eq!(store.liked_videos(user).await.unwrap().len(), 2);
    let mut counts = store.like_counts().await.unwrap();
    counts.sort_unstable();
    assert_eq!(counts, videos.map(|video| (video, 1)));
    assert_eq!(store.active_users(9).await.unwrap()[0].likes, 2);
    let facts = store.data_facts(&Source::default()).await.unwrap();
    assert_eq!((facts.likes, facts.liked_videos), (2, 2));
    // Popular videos: as of now, and as counted.
    let popular = "SELECT string_agg(share::text, ' ') FROM twotower.popular_videos()";
    assert_eq!(text(&url, popular).await, "1 1");
    store.refresh_statistics().await.unwrap();
    let counted = "SELECT string_agg(likes::text, ' ') FROM twotower.video_popularity";
    assert_eq!(text(&url, counted).await, "1 1");
    // Videos without likes are not popular.
    execute(
        &url,
        "DELETE FROM likes WHERE video_id = '00000000-0000-0000-0000-000000000001'",
    )
    .await;
    store.refresh_statistics().await.unwrap();
    assert_eq!(text(&url, counted).await, "1");
}

/// Text ids may lack hyphens, and the functions' owner may differ from the migrator.
#[tokio::test]
async fn likes_of_ids_spelled_otherwise_count_whoever_migrates() {
    let url = empty_postgres_url().await;
    execute(&url, &keyless("text", "")).await;
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    store.write_videos(&[video(1), video(2)]).await.unwrap();
    execute(
        &url,
        "INSERT INTO likes (user_id, video_id) VALUES
             ('00000000000000020000000000000001', '00000000-0000-0000-0000-000000000001'),
             ('00000000-0000-0002-0000-000000000001', '00000000-0000-0000-0000-000000000001'),
             ('somebody', '00000000-0000-0000-0000-000000000002')",
    )
    .await;
    store.refresh_statistics().await.unwrap();
    let counted = "SELECT string_agg(right(video_id::text, 1) || ': ' || likes, ', ') FROM twotower.video_popularity";
    assert_eq!(text(&url, counted).await, "1: 1");

    // Functions of another role, recreated by the database's owner.
    execute(
        &url,
        "ALTER FUNCTION twotower.refresh_statistics() OWNER TO twotower_trainer;
         GRANT USAGE ON SCHEMA twotower TO twotower_trainer;
         DROP FUNCTION twotower.like_counts();
         DELETE FROM supabase_migrations.schema_migrations WHERE version = '20261206000000'",
    )
    .await;
    store.migrate().await.unwrap();
    let may = "SELECT has_function_privilege('twotower_trainer', 'twotower.like_counts()', 'execute')::text";
    assert_eq!(text(&url, may).await, "true");
}

#[tokio::test]
async fn a_missing_key_is_told_and_made_by_what_is_said() {
    let url = postgres_url().await;
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    let keys = async || {
        store
            .audit_schema(&Source::default())
            .await
            .unwrap()
            .unwrap()
            .keys
    };
    let fine = keys().await;
    assert_eq!((fine.examined, fine.faults.len()), (2, 0));
    execute(
        &url,
        "ALTER TABLE likes DROP CONSTRAINT likes_pkey; CREATE INDEX ON likes (user_id, video_id);
         INSERT INTO videos (id) VALUES ('00000000-0000-0000-0000-000000000001');
         INSERT INTO likes (user_id, video_id, created_at)
         SELECT '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', '2026-01-01'::timestamptz + later
         FROM unnest(ARRAY[interval '0 s', '0 s', '1 s']) AS later",
    )
    .await;
    let found = keys().await;
    let [fault] = &found.faults[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        fault.what,
        "public.likes has no unique key on (user_id, video_id)"
    );
    // The index can be built where pairs are unique.
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let create = AssertSqlSafe(fault.fix.clone());
    assert!(connection.execute(create).await.is_err());
    let found = keys().await;
    let [fault] = &found.faults[..] else {
        panic!("{found:?}")
    };
    assert!(fault.what.contains("is invalid"), "{}", fault.what);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let document = std::fs::read_to_string(path).unwrap();
    let delete = document
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("delete from public.likes"))
        .take_while(|line| !line.is_empty());
    execute(&url, &delete.collect::<Vec<_>>().join("\n")).await;
    for statement in fault.fix.split_inclusive(';') {
        execute(&url, statement).await;
    }
    assert!(keys().await.faults.is_empty());
    let left =
        "SELECT concat(count(*), ' ', min(created_at) = '2026-01-01'::timestamptz) FROM likes";
    assert_eq!(text(&url, left).await, "1 t");
}

/// A `real` converted to `numeric` keeps six digits.
#[tokio::test]
async fn a_price_is_stored_as_it_was_given() {
    let (url, store) = over(
        "CREATE TABLE videos (id uuid PRIMARY KEY, title text, description text, genre text, maker text, price numeric(12, 2),
                              duration_seconds integer, thumbnail_url text, published_at timestamptz)",
    )
    .await;
    let priced = |n, title: &str, price| Video {
        title: title.into(),
        price: Some(price),
        duration_seconds: Some(61.0),
        ..video(n)
    };
    let mut videos = [
        priced(1, "a", 12_345.67),
        priced(2, "b", 0.1),
        priced(3, "c", 16_777_216.0),
    ];
    let written = |inserted, updated| VideosWritten { inserted, updated };
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(3, 0));
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(0, 0));
    let prices =
        "SELECT string_agg(price || ' ' || duration_seconds, ', ' ORDER BY id) FROM videos";
    let expected = "12345.67 61, 0.10 61, 16777216.00 61";
    assert_eq!(text(&url, prices).await, expected);
    // More precise values in the database stay while they are equal in Rust.
    execute(&url, "UPDATE videos SET price = 16777216.25").await;
    videos[0].title = "new".into();
    videos[2].title = "new".into();
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(0, 3));
    let expected = "12345.67 61, 0.10 61, 16777216.25 61";
    assert_eq!(text(&url, prices).await, expected);
}

#[tokio::test]
async fn a_time_outside_of_all_years_says_nothing() {
    let (_, store) = over(
        "CREATE TABLE videos (id uuid PRIMARY KEY, title text, description text, genre text, maker text, price real,
                              duration_seconds real, thumbnail_url text, published_at timestamptz);
         INSERT INTO videos (id, title, published_at)
         SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'a', at::timestamptz
         FROM unnest(ARRAY['2026-01-01 00:00Z', '-infinity', 'infinity', '0044-03-15 BC', '20000-01-01']) WITH ORDINALITY AS times (at, n)",
    )
    .await;
    let snapshot = store
        .read_snapshot(&Source::default(), SnapshotOptions::default())
        .await
        .unwrap();
    let videos: Vec<Video> = snapshot
        .dataset
        .catalogue
        .videos()
        .map(VideoRef::to_video)
        .collect();
    let times = [Some(START_US), None, None, None, None];
    assert_eq!(
        videos
            .iter()
            .map(|it| it.published_at_us)
            .collect::<Vec<_>>(),
        times
    );
    let mut facts = Vec::new();
    let mut take = |video: twotower_store::VideoFacts| facts.push(video.published_at_us);
    store.for_each_video_facts(&mut take).await.unwrap();
    assert_eq!(facts, times);
    // Read and written again, nothing changes.
    let written = store.write_videos(&videos).await.unwrap();
    assert_eq!(written, VideosWritten::default());
}

/// Tables of the application with our names and integer ids, all of them mapped.
#[tokio::test]
async fn tables_that_the_source_replaces_are_the_applications_to_have() {
    let (url, store) = over(
        "CREATE TABLE videos (id bigserial PRIMARY KEY, title text);
         CREATE TABLE video_tags (video_id bigint, tag_id bigint, PRIMARY KEY (video_id, tag_id));
         CREATE TABLE video_performers (video_id bigint, performer_id bigint, PRIMARY KEY (video_id, performer_id));
         CREATE TABLE likes (user_id bigint, video_id bigint, created_at timestamptz NOT NULL DEFAULT now());
         CREATE TABLE skips (LIKE likes INCLUDING ALL)",
    )
    .await;
    let id = |column: &str| {
        format!("('00000000-0000-8000-8000-' || lpad(to_hex({column}), 12, '0'))::uuid")
    };
    let [user, video, own] = ["user_id", "video_id", "id"].map(id);
    let pairs = |table: &str| {
        format!("SELECT {user} AS user_id, {video} AS video_id, created_at FROM {table} AS l")
    };
    let none = format!(
        "SELECT {video} AS video_id, ''::text AS name FROM (SELECT 1 AS video_id WHERE false) AS nothing"
    );
    let source = Source {
        videos: format!(
            "SELECT {own} AS id, title, NULL::text AS description, NULL::text AS genre, NULL::text AS maker, NULL::float8 AS price,
                 NULL::float8 AS duration_seconds, NULL::timestamptz AS published_at, NULL::text AS thumbnail_url FROM videos"
        ),
        video_tags: none.clone(),
        video_performers: none,
        likes: pairs("likes"),
        skips: pairs("skips"),
    };
    let found = store.audit_schema(&source).await.unwrap().unwrap();
    for audit in [
        &found.tables,
        &found.policies,
        &found.grants,
        &found.functions,
        &found.triggers,
        &found.indexes,
        &found.keys,
    ] {
        assert_eq!((&audit.faults, &audit.doubts), (&vec![], &vec![]));
    }
    assert_eq!(found.row_security.faults, []);
    for name in ["public.video_tags", "public.video_performers"] {
        let over = &found.row_security.passed_over;
        assert!(over.contains(&name), "{name}: {over:?}");
    }
    // Ids are computed from these tables, so they are read.
    for name in ["public.videos", "public.likes", "public.skips"] {
        let security = &found.row_security;
        assert!(!security.passed_over.contains(&name), "{security:?}");
        let told = |fault: &Fault| fault.what.contains(name) && !fault.fix.contains("alter table");
        assert!(security.doubts.iter().any(told), "{name}: {security:#?}");
    }
    assert_eq!(found.row_security.doubts.len(), 3);
    let pair = ["public.likes", "public.skips"];
    assert_eq!(found.indexes.passed_over, pair);
    assert_eq!(found.keys.passed_over, pair);
    // Tables that are read as ours are checked as usual.
    let part = Source {
        likes: Source::default().likes,
        ..source.clone()
    };
    let found = store.audit_schema(&part).await.unwrap().unwrap();
    let [fault] = &found.row_security.faults[..] else {
        panic!("{:#?}", found.row_security)
    };
    assert!(fault.what.contains("public.likes"), "{fault:?}");
    assert_eq!(found.indexes.passed_over, ["public.skips"]);

    // A full scan is reported from a few thousand rows on, with the index that avoids it.
    let ours = store.unindexed_reads(&Source::default()).await.unwrap();
    assert_eq!(ours, None);
    assert_eq!(store.unindexed_reads(&source).await.unwrap().unwrap(), []);
    execute(
        &url,
        "CREATE INDEX ON likes (video_id, user_id);
         INSERT INTO likes SELECT n % 7, n FROM generate_series(1, 6000) AS n;
         CREATE SCHEMA app;
         CREATE TABLE app.\"Skips\" (member text, video_id uuid, created_at timestamptz) PARTITION BY HASH (member);
         CREATE TABLE app.part PARTITION OF app.\"Skips\" FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         INSERT INTO app.part SELECT md5(n::text), md5(n::text)::uuid, now() FROM generate_series(1, 6000) AS n;
         ANALYZE",
    )
    .await;
    let source = Source {
        skips: "SELECT member AS user_id, video_id, created_at FROM app.\"Skips\" AS s".into(),
        ..source
    };
    let faults = store.unindexed_reads(&source).await.unwrap().unwrap();
    let [likes, skips] = &faults[..] else {
        panic!("{faults:#?}")
    };
    let what = "likes of [source]: each request reads all of public.likes, about 6000 rows, as no index finds those of one user";
    assert_eq!(likes.what, what);
    assert!(
        likes
            .fix
            .starts_with("create index concurrently on public.likes (("),
        "{likes:?}"
    );
    let fix = "create index on app.\"Skips\" (member);";
    assert_eq!(skips.fix, fix);
    execute(&url, &likes.fix).await;
    execute(&url, fix).await;
    assert_eq!(store.unindexed_reads(&source).await.unwrap().unwrap(), []);
}
