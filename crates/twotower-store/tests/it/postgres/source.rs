//! Tables of other names, with the ids and indexes of applications.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{Connection, PgConnection, Row};
use std::time::{Duration, Instant};
use twotower_store::{
    EventKind, EventPolicy, InteractionKind, NewEvent, Replica, SnapshotOptions, Source, Store,
    StoreError,
};
use uuid::Uuid;

const LIKE: InteractionKind = InteractionKind::Like;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0xabcd_0000_0000_4000_8000_0000_0000_0000 + n)
}

/// `films` and `favourites` with ids of this type: film n of 20000; user n of 200 likes a hundred
/// films from n on.
fn tables(kind: &str) -> String {
    let id = "'abcd0000-0000-4000-8000-' || lpad(to_hex(n), 12, '0')";
    let member = "'abcd0000-0000-4000-8000-' || lpad(to_hex(m), 12, '0')";
    format!(
        "CREATE EXTENSION IF NOT EXISTS citext;
         CREATE DOMAIN code AS varchar(40) CHECK (length(VALUE) BETWEEN 32 AND 36);
         CREATE TABLE films (code {kind} PRIMARY KEY, name text, cents integer, released timestamp);
         CREATE TABLE favourites (member {kind} NOT NULL, film {kind} NOT NULL, since timestamptz NOT NULL DEFAULT now());
         CREATE INDEX ON favourites (member, since DESC);
         CREATE TABLE labels (film {kind} NOT NULL, label text);
         CREATE INDEX ON labels (film);
         INSERT INTO films SELECT ({id})::{kind}, ' Film ' || n, n * 100, '2026-01-01' FROM generate_series(1, 20000) AS n;
         INSERT INTO labels SELECT ({id})::{kind}, 'calm' FROM generate_series(1, 20000) AS n;
         INSERT INTO favourites SELECT member, film, timestamptz '2026-01-01' + (n + m) * interval '1 minute' FROM (
             SELECT m, n, ({member})::{kind} AS member, ({id})::{kind} AS film
             FROM generate_series(1, 200) AS m, generate_series(1, 1000) AS n WHERE n BETWEEN m AND m + 99
         ) AS likes;
         ANALYZE films; ANALYZE favourites; ANALYZE labels"
    )
}

fn source() -> Source {
    Source {
        videos: "SELECT code AS id, name AS title, NULL AS description, NULL AS genre, 'studio' AS maker, cents / 100.0 AS price,
                        NULL::integer AS duration_seconds, released AS published_at, NULL AS thumbnail_url FROM films"
            .into(),
        video_tags: "SELECT film AS video_id, label AS name FROM labels".into(),
        likes: "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites;".into(),
        ..Source::default()
    }
}

#[tokio::test]
async fn ids_of_any_type_are_found_by_the_index_over_them() {
    for kind in ["uuid", "text", "varchar(36)", "char(36)", "citext", "code"] {
        let url = postgres_url().await;
        execute(&url, &tables(kind)).await;
        let store = connect(&url).await.with_source(&source()).await.unwrap();
        let state = store.user_state(id(7), 9).await.unwrap();
        let liked: Vec<Uuid> = (7..107).map(id).collect();
        assert_eq!(state.likes, liked, "{kind}");
        let asked: Vec<Uuid> = [3, 4, 5].map(id).into();
        let facts = store.video_facts(&asked).await.unwrap();
        assert_eq!(facts.len(), 3, "{kind}");
        let film = &facts[&id(3)];
        assert_eq!((&*film.title, film.price), ("Film 3", Some(3.0)));
        assert_eq!(film.tags, ["calm"]);
        assert_eq!(film.published_at_us, Some(1_767_225_600_000_000));
        // Also over a replica's connections; this server is none, and reports that.
        let replica = Replica::open(&url, few_connections()).unwrap();
        let read = replica.reading_as(&store).user_states(&[id(7)], 9).await;
        let read = read.unwrap();
        assert_eq!(
            (read.position, &read.states[..]),
            (None, &[Some(state)][..])
        );

        let view = NewEvent {
            event_id: id(1),
            kind: EventKind::View,
            video: id(1000),
            watch_fraction: None,
            model_version: None,
            request_id: None,
            position: None,
            at_us: None,
        };
        let (views, all) = ([view.clone()], EventPolicy::All);
        store.record_events(id(7), &views, all).await.unwrap();
        let unknown = [NewEvent {
            video: id(20_001),
            ..view
        }];
        let refused = store.record_events(id(7), &unknown, all).await;
        assert!(matches!(refused, Err(StoreError::UnknownVideo(_))));
        store.close().await;
        drop(replica);
        let (scans, uses) = scans(&url).await;
        assert_eq!(scans, 0, "{kind}: a table was read from end to end");
        assert!(uses >= 5, "{kind}");

        // Full reads are in order.
        let store = connect(&url).await.with_source(&source()).await.unwrap();
        let mut films = Vec::new();
        let mut collect = |film: twotower_store::VideoFacts| films.push((film.id, film.tags.len()));
        store.for_each_video_facts(&mut collect).await.unwrap();
        let expected: Vec<(Uuid, usize)> = (1..=20_000).map(|n| (id(n), 1)).collect();
        assert_eq!(films, expected, "{kind}");
        let mut counts = store.like_counts().await.unwrap();
        counts.sort_unstable();
        assert_eq!(counts.len(), 299, "{kind}");
        assert_eq!((counts[0], counts[149]), ((id(1), 1), (id(150), 100)));
        // A like written by the application counts at once.
        let like = format!("INSERT INTO favourites VALUES ('{}', '{}')", id(7), id(5));
        execute(&url, &like).await;
        let state = store.user_state(id(7), 9).await.unwrap();
        assert_eq!(state.likes[100..], [id(5)]);
        assert!(store.reads_elsewhere(LIKE));
        store.close().await;
    }
}

/// Arbitrary text in an id column is left out of every read and ends none.
#[tokio::test]
async fn texts_that_are_no_ids_are_left_out() {
    let url = postgres_url().await;
    let (ann, film) = (id(7), id(3));
    let (plain, loud) = (film.simple(), film.to_string().to_uppercase());
    execute(
        &url,
        &format!(
            "CREATE TABLE films (code varchar(50), name text, cents integer, released timestamp);
             CREATE TABLE favourites (member text, film varchar(50), since timestamptz DEFAULT '2026-01-01');
             CREATE TABLE labels (film text, label text);
             INSERT INTO films (code, name) VALUES ('{plain}', 'Film 3'), ('film-1', 'Odd'), ('', 'Odd');
             INSERT INTO labels VALUES ('{film}', 'calm'), ('film-1', 'odd');
             INSERT INTO favourites VALUES ('{ann}', '{loud}'), ('{ann}', 'film-1'), ('bob@example.com', '{film}'), ('x', 'y')"
        ),
    )
    .await;
    let store = connect(&url).await;
    for pseudonyms in [false, true] {
        let options = SnapshotOptions {
            pseudonyms,
            ..SnapshotOptions::default()
        };
        let snapshot = store.read_snapshot(&source(), options).await.unwrap();
        assert_eq!((snapshot.users.len(), snapshot.orphans), (1, 0));
        assert_eq!(snapshot.dataset.catalogue.len(), 1);
        assert_eq!(snapshot.users == [ann], !pseudonyms);
    }
    let seen = store.last_seen(&source()).await.unwrap();
    assert_eq!(seen.iter().map(|it| it.user).collect::<Vec<_>>(), [ann]);
    assert_eq!(store.source_video_ids(&source()).await.unwrap(), [film]);
    let facts = store.data_facts(&source()).await.unwrap();
    assert_eq!((facts.videos, facts.likes, facts.users), (1, 1, 1));
    let complete = store.completeness(&source(), 1).await.unwrap();
    assert_eq!((complete.videos, complete.missing), (1, 1));
    store.like_coverage(&source(), 1).await.unwrap();

    let serving = store.with_source(&source()).await.unwrap();
    assert_eq!(serving.user_state(ann, 9).await.unwrap().likes, [film]);
    let mut films = Vec::new();
    let mut collect = |film: twotower_store::VideoFacts| films.push((film.id, film.tags));
    serving.for_each_video_facts(&mut collect).await.unwrap();
    assert_eq!(films, [(film, vec!["calm".to_owned()])]);
    assert_eq!(serving.video_facts(&[film]).await.unwrap().len(), 1);
    assert_eq!(serving.like_counts().await.unwrap(), [(film, 1)]);
    let active = serving.active_users(9).await.unwrap();
    assert_eq!(active.iter().map(|it| it.user).collect::<Vec<_>>(), [ann]);

    // A NULL id is a fault of the query.
    let null = format!("INSERT INTO favourites VALUES (NULL, '{film}')");
    execute(&url, &null).await;
    let refused = store
        .read_snapshot(&source(), SnapshotOptions::default())
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "likes: column user_id is NULL");
}

/// A value that the database quotes is in no message of ours.
#[tokio::test]
async fn a_value_that_nothing_can_be_made_of_is_not_repeated() {
    let url = postgres_url().await;
    let canary = "bob@example.com";
    execute(
        &url,
        &format!(
            "CREATE TABLE films (code uuid, name text, released timestamp);
             CREATE TABLE favourites (member uuid, film uuid, since timestamptz);
             CREATE TABLE labels (film uuid, label text);
             INSERT INTO films VALUES ('{}', '{canary}')",
            id(1)
        ),
    )
    .await;
    let source = Source {
        videos: source().videos.replace("cents / 100.0", "name"),
        ..source()
    };
    let store = connect(&url).await;
    let error = store
        .read_snapshot(&source, SnapshotOptions::default())
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with(
            "a value of the query for videos is not what is asked for (SQLSTATE 22P02, invalid text representation)"
        ),
        "{said}"
    );
    let serving = store.with_source(&source).await.unwrap();
    let other = serving.video_facts(&[id(1)]).await.unwrap_err();
    assert!(other.to_string().contains("SQLSTATE 22P02"), "{other}");
    for error in [error, other] {
        assert!(!format!("{error} {error:?}").contains(canary), "{error:?}");
    }
}

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

/// Sequential and index scans of the application's tables since the last vacuum or analyze, once
/// the statistics of closed connections have arrived.
async fn scans(url: &str) -> (i64, i64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let begun = Instant::now();
    loop {
        let row = sqlx::query(
            "SELECT coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_tables
             WHERE relname IN ('films', 'favourites', 'labels')",
        )
        .persistent(false)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        let (read, by_index): (i64, i64) = (row.get(0), row.get(1));
        if by_index >= 5 || begun.elapsed() > Duration::from_secs(20) {
            return (read, by_index);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_role_that_may_not_read_a_table_is_told_which() {
    let url = postgres_url().await;
    execute(
        &url,
        &format!(
            "{}; REVOKE ALL ON favourites FROM PUBLIC; GRANT SELECT ON films, labels TO service_role",
            tables("uuid")
        ),
    )
    .await;
    let role = "options=-c%20role%3Dservice_role";
    let limited = format!("{url}?{role}");
    let store = Store::connect(&limited, few_connections()).await.unwrap();
    let error = store.with_source(&source()).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("[source] likes: permission denied for table favourites"),
        "{said}"
    );
    assert!(error.is_usage());
}

/// The application's own table with our name, which no migration replaces.
#[tokio::test]
async fn our_own_query_of_a_table_with_other_ids_asks_for_one_of_the_applications() {
    let url = postgres_url().await;
    let setup = "DROP TABLE likes CASCADE; CREATE TABLE likes (user_id bigint, video_id bigint, created_at timestamptz)";
    execute(&url, setup).await;
    let store = connect(&url).await;
    let ours = Source::default();
    let read = store.read_snapshot(&ours, SnapshotOptions::default());
    let error = read.await.unwrap_err();
    let text = error.to_string();
    let begin = "`likes` cannot be read as it is: cannot cast type bigint to uuid. ";
    assert!(
        text.starts_with(begin) && text.contains("[source]"),
        "{text}"
    );
    assert!(!text.contains("migrate") && error.is_usage(), "{text}");
    execute(&url, "DROP TABLE likes").await;
    let error = store.last_seen(&ours).await.unwrap_err();
    let text = error.to_string();
    let lacks = "the database lacks what is needed (relation \"likes\" does not exist): run `twotower migrate`";
    assert_eq!(text, lacks);
}
