//! Sources with text ids, some of which are no UUIDs. The rows are literals in the queries, the
//! same for both engines.

use super::{contract, user_id, vector_rows, video_id};
use twotower_store::{SnapshotOptions, Source, Store, StoreKind, VectorTable};

contract! {
    texts_that_are_no_ids_are_left_out,
    what_is_learned_from_is_what_is_served_however_ids_are_spelled,
}

/// Rows of texts, in columns of these names.
fn texts(columns: [&str; 2], rows: &[[&str; 2]]) -> String {
    let rows = rows
        .iter()
        .map(|[one, other]| format!("('{one}', '{other}')"));
    let rows: Vec<String> = rows.collect();
    let [one, other] = columns;
    format!(
        "SELECT column1 AS {one}, column2 AS {other} FROM (VALUES {}) AS texts",
        rows.join(", ")
    )
}

/// Arbitrary text in an id column is left out of every read and ends none, even in the first row.
async fn texts_that_are_no_ids_are_left_out(store: &Store) {
    let (ann, film) = (user_id(0xaaaa_aaaa), video_id(0xffff_ffff));
    let spellings = [
        ann.to_string(),
        // Almost an id.
        format!("{ann}0"),
        film.to_string(),
        film.to_string().to_uppercase(),
        film.simple().to_string(),
    ];
    let [user, nearly, video, loud, plain] = spellings.each_ref().map(String::as_str);
    // As many letters as an id has bytes.
    let bytes = "0123456789abcdef";
    let now_us = store.time().await.unwrap().us();
    let at = match store.kind() {
        StoreKind::Postgres => format!("timestamptz 'epoch' + {now_us} * interval '1 microsecond'"),
        StoreKind::Sqlite => now_us.to_string(),
    };
    let done = |rows: &[[&str; 2]]| {
        let rows = texts(["user_id", "video_id"], rows);
        format!("SELECT user_id, video_id, {at} AS created_at FROM ({rows}) AS done")
    };
    let odd = [
        ["bob@example.com", video],
        [user, "film-1"],
        ["", ""],
        [bytes, video],
        [nearly, bytes],
    ];
    let odd_names = [["film-1", "odd"], ["", "odd"], [bytes, "odd"]];
    let named = |columns, name: [&str; 2]| texts(columns, &[&odd_names[..], &[name]].concat());
    let source = Source {
        videos: format!(
            "SELECT id, title, NULL AS description, NULL AS genre, 'one' AS maker, NULL AS price, NULL AS duration_seconds,
                    NULL AS published_at, NULL AS thumbnail_url FROM ({}) AS films",
            named(["id", "title"], [plain, "Film"])
        ),
        video_tags: named(["video_id", "name"], [video, "calm"]),
        video_performers: named(["video_id", "name"], [loud, "P"]),
        likes: done(&[&odd[..], &[[user, loud]]].concat()),
        skips: done(&[&odd[..], &[[user, plain]]].concat()),
    };
    for pseudonyms in [false, true] {
        let options = SnapshotOptions {
            pseudonyms,
            ..SnapshotOptions::default()
        };
        let snapshot = store.read_snapshot(&source, options).await.unwrap();
        let data = &snapshot.dataset;
        assert_eq!((data.likes.len(), data.skips.len()), (1, 1));
        assert_eq!((data.users, data.catalogue.len()), (1, 1));
        assert_eq!(snapshot.orphans, 0);
        assert!(pseudonyms || snapshot.users == [ann]);
    }
    let seen = store.last_seen(&source).await.unwrap();
    assert_eq!(seen.iter().map(|it| it.user).collect::<Vec<_>>(), [ann]);
    assert_eq!(store.source_video_ids(&source).await.unwrap(), [film]);
    let vectors = vector_rows(&[film]);
    let written = store.write_embeddings(VectorTable::Videos, 1, &vectors);
    written.await.unwrap();
    let facts = store.data_facts(&source).await.unwrap();
    assert_eq!((facts.likes, facts.recent_likes, facts.users), (1, 1, 1));
    assert_eq!((facts.videos, facts.liked_videos), (1, 1));
    let complete = store.completeness(&source, 1).await.unwrap();
    assert_eq!((complete.videos, complete.missing), (1, 0));
    let coverage = store.like_coverage(&source, 1).await.unwrap();
    assert_eq!((coverage.likes, coverage.known), (1, 1));

    let serving = store.with_source(&source).await.unwrap();
    let state = serving.user_state(ann, 9).await.unwrap();
    assert_eq!((state.likes, state.skips), (vec![film], vec![film]));
    let history = serving.user_history(ann, 9).await.unwrap();
    assert_eq!((history.likes, history.skips), (vec![film], vec![film]));
    let mut known = Vec::new();
    let mut collect = |video: twotower_store::VideoFacts| known.push(video);
    serving.for_each_video_facts(&mut collect).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].id, &*known[0].title), (film, "Film"));
    assert_eq!(
        (&known[0].tags[..], &known[0].performers[..]),
        (&["calm".to_owned()][..], &["P".to_owned()][..])
    );
    assert_eq!(serving.video_facts(&[film]).await.unwrap()[&film], known[0]);
    assert_eq!(serving.like_counts().await.unwrap(), [(film, 1)]);
    let active = serving.active_users(9).await.unwrap();
    let active: Vec<_> = active.iter().map(|it| (it.user, it.likes)).collect();
    assert_eq!(active, [(ann, 1)]);

    // Without valid rows the result is empty.
    let nothing = Source {
        likes: done(&odd),
        ..source.clone()
    };
    let options = SnapshotOptions::default();
    let snapshot = store.read_snapshot(&nothing, options).await.unwrap();
    assert!(snapshot.dataset.likes.is_empty());
    store.with_source(&nothing).await.unwrap();
    // A NULL id is a fault of the query.
    let missing = Source {
        likes: done(&[[user, loud]]).replace("SELECT user_id,", "SELECT NULL AS user_id,"),
        ..source
    };
    let refused = store.read_snapshot(&missing, options).await.unwrap_err();
    assert!(refused.to_string().contains("column user_id"), "{refused}");
}

/// Each user likes each video once, with both ids in other spellings: training and serving see the
/// same likes.
async fn what_is_learned_from_is_what_is_served_however_ids_are_spelled(store: &Store) {
    let id = |n: u128| uuid::Uuid::from_u128(0xabcd_ef00_0000_4000_8000_00ab_cdef_0000 + n);
    let found = |id: uuid::Uuid| {
        let (text, plain) = (id.to_string(), id.simple().to_string());
        let each = [
            text.clone(),
            text.to_uppercase(),
            plain.clone(),
            plain.to_uppercase(),
        ];
        let braces = each.each_ref().map(|text| format!("{{{text}}}"));
        [&each[..], &braces].concat()
    };
    // UUIDs to PostgreSQL, but not findable by an index.
    let odd = |id: uuid::Uuid| {
        let (text, plain) = (id.to_string(), id.simple().to_string());
        let mixed = format!("{}{}", &text[..2], text[2..].to_uppercase());
        let hyphens = format!("{}-{}", &plain[..4], &plain[4..]);
        [format!("{{{mixed}}}"), mixed, hyphens]
    };
    let (users, films): (Vec<_>, Vec<_>) = (1..=3).map(|n| (id(n), id(100 + n))).unzip();
    let quiet = id(9);
    let mut rows = Vec::new();
    for user in &users {
        for (spelled, film) in found(*user).iter().zip(films.iter().cycle()) {
            for film in found(*film) {
                rows.push([spelled.clone(), film]);
            }
            rows.extend(odd(films[0]).map(|film| [spelled.clone(), film]));
        }
        rows.extend(odd(*user).map(|user| [user, films[0].to_string()]));
    }
    rows.extend(odd(quiet).map(|user| [user, films[0].to_string()]));
    let films_spelled = films
        .iter()
        .zip([7, 1, 4])
        .map(|(film, n)| [found(*film)[n].clone(), "Film".into()]);
    let at = match store.kind() {
        StoreKind::Postgres => "timestamptz '2026-01-31 00:00:00+00'",
        StoreKind::Sqlite => "1769817600000000",
    };
    let texts = |columns, rows: &[[String; 2]]| {
        let rows: Vec<[&str; 2]> = rows
            .iter()
            .map(|row| row.each_ref().map(String::as_str))
            .collect();
        texts(columns, &rows)
    };
    let done = texts(["user_id", "video_id"], &rows);
    let titles = texts(["id", "title"], &films_spelled.collect::<Vec<_>>());
    let source = Source {
        videos: format!(
            "SELECT id, title, NULL AS description, NULL AS genre, 'one' AS maker, NULL AS price, NULL AS duration_seconds,
                    NULL AS published_at, NULL AS thumbnail_url FROM ({titles}) AS films"
        ),
        likes: format!("SELECT user_id, video_id, {at} AS created_at FROM ({done}) AS done"),
        ..Source::default()
    };
    let snapshot = store
        .read_snapshot(&source, SnapshotOptions::default())
        .await
        .unwrap();
    let mut learned = snapshot.users.clone();
    learned.sort_unstable();
    assert_eq!(learned, users);
    assert_eq!(snapshot.dataset.likes.len(), 9);
    let serving = store.with_source(&source).await.unwrap();
    for user in users {
        let mut likes = serving.user_state(user, 9).await.unwrap().likes;
        likes.sort_unstable();
        assert_eq!(likes, films);
    }
    let state = serving.user_state(quiet, 9).await.unwrap();
    assert!(state.likes.is_empty());
    let facts = serving.video_facts(&films).await.unwrap();
    assert_eq!(facts.len(), films.len());
}
