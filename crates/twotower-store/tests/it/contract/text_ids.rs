//! Sources whose ids are texts, some of which are none: rows that stand in the queries themselves are the same to both engines.

use super::{contract, user_id, vector_rows, video_id};
use twotower_store::{SnapshotOptions, Source, Store, StoreKind, VectorTable};

contract! {
    texts_that_are_no_ids_are_left_out,
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

/// What anybody could put into a column of texts is left out of everything that is read, and ends nothing, also where it comes first.
async fn texts_that_are_no_ids_are_left_out(store: &Store) {
    let (ann, film) = (user_id(0xaaaa_aaaa), video_id(0xffff_ffff));
    let spellings = [
        ann.to_string(),
        // Hardly other than an id.
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

    // Where there is nothing else, there is nothing.
    let nothing = Source {
        likes: done(&odd),
        ..source.clone()
    };
    let options = SnapshotOptions::default();
    let snapshot = store.read_snapshot(&nothing, options).await.unwrap();
    assert!(snapshot.dataset.likes.is_empty());
    store.with_source(&nothing).await.unwrap();
    // An id that is missing altogether is a fault of the query.
    let missing = Source {
        likes: done(&[[user, loud]]).replace("SELECT user_id,", "SELECT NULL AS user_id,"),
        ..source
    };
    let refused = store.read_snapshot(&missing, options).await.unwrap_err();
    assert!(refused.to_string().contains("column user_id"), "{refused}");
}
