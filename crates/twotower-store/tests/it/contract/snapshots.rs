//! Snapshots for training.

use super::{
    DAY_US, LIKE, SKIP, START_US, contract, row, snapshot, user_id, video_id, with_videos,
};
use twotower_core::interaction::Interaction;
use twotower_store::{
    ErasePlan, SnapshotOptions, Source, Store, StoreError, StoreKind, snapshot_sha256,
};
use uuid::Uuid;

contract! {
    a_snapshot_is_ordered_and_numbered,
    a_snapshot_leaves_out_orphans_and_duplicates,
    a_snapshot_forgets_what_is_old,
    a_snapshot_with_pseudonyms_is_the_same,
    likes_of_impossible_times_count_nowhere,
    a_source_may_have_other_names,
    a_source_that_is_wrong_is_named,
    both_engines_give_the_same_snapshot,
}

async fn a_snapshot_is_ordered_and_numbered(store: &Store) {
    with_videos(store, 5).await;
    let likes = [
        row(5, 2, START_US + 1),
        row(5, 1, START_US + 1),
        row(4, 3, START_US + 1),
        row(9, 5, START_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let skips = [row(1, 4, START_US - 1), row(9, 4, START_US + 7_000_000)];
    store.write_interactions(SKIP, &skips).await.unwrap();
    let snapshot = snapshot(store).await;
    let at = (START_US / 1_000_000) as u32;
    let like = |user, item| Interaction { user, item, at };
    // (time, user id, video id); users numbered in order of appearance, likes first.
    assert_eq!(
        snapshot.dataset.likes,
        [like(0, 4), like(1, 2), like(2, 0), like(2, 1)]
    );
    assert_eq!(snapshot.users, [9, 4, 5, 1].map(user_id));
    assert_eq!(snapshot.dataset.users, 4);
    let skip = |user, at| Interaction { user, item: 3, at };
    assert_eq!(snapshot.dataset.skips, [skip(3, at - 1), skip(0, at + 7)]);
    assert_eq!(snapshot.cut_off_us, Some(START_US + 7_000_000));
    assert_eq!(snapshot.orphans, 0);
}

async fn a_snapshot_leaves_out_orphans_and_duplicates(store: &Store) {
    with_videos(store, 3).await;
    let likes = [
        row(1, 1, START_US),
        row(1, 2, START_US),
        row(2, 2, START_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let source = Source {
        videos: Source::default().videos + " WHERE title NOT LIKE '%1%'; ",
        likes: Source::default().likes
            + " UNION ALL SELECT user_id, video_id, created_at FROM likes -- twice",
        ..Source::default()
    };
    let snapshot = store
        .read_snapshot(&source, SnapshotOptions::default())
        .await
        .unwrap();
    assert_eq!(snapshot.dataset.likes.len(), 2);
    // The like of the video twice, its three tags and its two performers.
    assert_eq!(snapshot.orphans, 2 + 3 + 2);
    assert_eq!(snapshot.users, [1, 2].map(user_id));
}

async fn a_snapshot_forgets_what_is_old(store: &Store) {
    with_videos(store, 3).await;
    let likes = [
        row(1, 1, START_US - 1),
        row(2, 1, START_US),
        row(3, 1, START_US + 30 * DAY_US),
        // In the year 2100, by a wrong clock: other rows do not become old.
        row(4, 1, 4_102_444_800_000_000),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let options = SnapshotOptions {
        max_age_days: Some(30),
        ..SnapshotOptions::default()
    };
    let snapshot = store
        .read_snapshot(&Source::default(), options)
        .await
        .unwrap();
    assert_eq!(snapshot.users, [2, 3, 4].map(user_id));
    assert_eq!(snapshot.dataset.users, 3);
}

async fn a_snapshot_with_pseudonyms_is_the_same(store: &Store) {
    with_videos(store, 4).await;
    let likes: Vec<_> = (0..60)
        .map(|n| row(1000 - n * 7 % 40, 1 + n % 4, START_US + n as i64))
        .collect();
    store.write_interactions(LIKE, &likes).await.unwrap();
    let skips = [row(5, 1, START_US), row(1000, 1, START_US)];
    store.write_interactions(SKIP, &skips).await.unwrap();
    // A pseudonym may equal the id of an erased user.
    for n in 1..=50 {
        let everything = ErasePlan {
            likes: true,
            skips: true,
            ..ErasePlan::default()
        };
        let user = Uuid::from_u128(n);
        store.erase_user(user, &everything).await.unwrap();
    }
    let erased = user_id(993);
    let everything = ErasePlan {
        likes: true,
        skips: true,
        ..ErasePlan::default()
    };
    store.erase_user(erased, &everything).await.unwrap();
    let literal = match store.kind() {
        StoreKind::Postgres => format!("'{erased}'::uuid"),
        StoreKind::Sqlite => format!("x'{}'", erased.simple()),
    };
    let read = async |pseudonyms| {
        let options = SnapshotOptions {
            pseudonyms,
            ..SnapshotOptions::default()
        };
        let source = Source {
            // Rows that an application writes later for an erased user.
            likes: format!(
                "{} UNION ALL SELECT {literal}, video_id, created_at FROM likes ; ",
                Source::default().likes
            ),
            ..Source::default()
        };
        store.read_snapshot(&source, options).await.unwrap()
    };
    let (plain, hidden) = (read(false).await, read(true).await);
    assert_eq!(
        snapshot_sha256(&plain.dataset),
        snapshot_sha256(&hidden.dataset)
    );
    assert_eq!(plain.dataset.likes, hidden.dataset.likes);
    assert_eq!(
        (plain.cut_off_us, plain.orphans, plain.erasures_seen),
        (hidden.cut_off_us, hidden.orphans, hidden.erasures_seen)
    );
    assert!(!plain.users.contains(&erased));
    assert_eq!(plain.users.len(), 40);
    if store.kind() == StoreKind::Postgres {
        let known = |id: &Uuid| plain.users.contains(id);
        assert!(
            !hidden.users.iter().any(known),
            "an id has left the database"
        );
    }
}

/// Anybody who may write a row of the application's table may be able to choose its time.
async fn likes_of_impossible_times_count_nowhere(store: &Store) {
    with_videos(store, 3).await;
    let like = [row(1, 1, START_US)];
    store.write_interactions(LIKE, &like).await.unwrap();
    let is_postgres = store.kind() == StoreKind::Postgres;
    let time = |at_us: i64| match store.kind() {
        StoreKind::Postgres => {
            format!("timestamptz 'epoch' + {at_us} * interval '1 microsecond'")
        }
        StoreKind::Sqlite => at_us.to_string(),
    };
    let last = i64::from(u32::MAX) * 1_000_000 + 999_999;
    let mut times: Vec<(String, bool)> = vec![
        (time(0), true),
        (time(last), true),
        (time(-1), false),
        (time(last + 1), false),
        ("NULL".into(), false),
    ];
    let endless: &[&str] = if is_postgres {
        &["timestamptz 'infinity'", "timestamptz '-infinity'"]
    } else {
        &["9e999", "-9e999"]
    };
    times.extend(endless.iter().map(|&time| (time.to_owned(), false)));
    let user = user_id(1);
    for (time, counts) in times {
        // The user likes the other two videos at that time.
        let query = format!(
            "SELECT user_id, video_id, created_at FROM likes
             UNION ALL SELECT user_id, id, {time} FROM likes, videos WHERE id <> video_id"
        );
        let source = Source {
            likes: query.clone(),
            skips: query,
            ..Source::default()
        };
        let read = store.read_snapshot(&source, SnapshotOptions::default());
        let snapshot = read.await.unwrap();
        let count = if counts { 3 } else { 1 };
        assert_eq!(snapshot.dataset.likes.len(), count, "{time}");
        assert_eq!(snapshot.dataset.skips.len(), count, "{time}");
        let seen = store.last_seen(&source).await.unwrap();
        let mapped = store.with_source(&source).await.unwrap();
        let state = mapped.user_state(user, 9).await.unwrap();
        assert_eq!((state.likes.len(), state.skips.len()), (count, count));
        let history = mapped.user_history(user, 9).await.unwrap();
        assert_eq!((history.likes, history.skips), (state.likes, state.skips));
        let counted = mapped.like_counts().await.unwrap();
        assert_eq!(counted.len(), count, "{time}");
        let active = mapped.active_users(9).await.unwrap();
        assert_eq!(active[0].likes as usize, count, "{time}");
        if !counts {
            assert_eq!(snapshot.cut_off_us, Some(START_US), "{time}");
            assert_eq!(snapshot.orphans, 0, "{time}");
            assert_eq!((seen.len(), seen[0].at_us), (1, START_US), "{time}");
            let liked = mapped.liked_videos(user).await.unwrap();
            assert_eq!(liked, [video_id(1)], "{time}");
        }
    }
}

async fn a_source_may_have_other_names(store: &Store) {
    with_videos(store, 2).await;
    store
        .write_interactions(LIKE, &[row(1, 2, START_US)])
        .await
        .unwrap();
    let source = Source {
        videos: "SELECT NULL AS title, NULL AS description, NULL AS genre, id, NULL AS maker, NULL AS price, 60 AS duration_seconds,
                 NULL AS published_at, NULL AS thumbnail_url, 1 AS extra FROM videos"
            .into(),
        video_tags: "SELECT 'x' AS name, id AS video_id FROM videos UNION ALL SELECT 'x', id FROM videos".into(),
        likes: "SELECT created_at, video_id, user_id FROM likes".into(),
        ..Source::default()
    };
    let snapshot = store
        .read_snapshot(&source, SnapshotOptions::default())
        .await
        .unwrap();
    let video = snapshot.dataset.catalogue.video(0).to_video();
    assert_eq!(video.title, "");
    assert_eq!(video.genre, None);
    assert_eq!(video.duration_seconds, Some(60.0));
    assert_eq!(video.tags, ["x"]);
    assert_eq!(snapshot.dataset.likes.len(), 1);
}

async fn a_source_that_is_wrong_is_named(store: &Store) {
    let missing = Source {
        likes: "SELECT user_id, video_id, created_at FROM no_such_table".into(),
        ..Source::default()
    };
    let error = store
        .read_snapshot(&missing, SnapshotOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Source { key: "likes", .. }),
        "{error}"
    );
    assert!(error.to_string().contains("no_such_table"), "{error}");
    // The connection is usable afterwards, or closed.
    for _ in 0..10 {
        store.ping().await.unwrap();
    }
    let writing = Source {
        videos: "DELETE FROM videos RETURNING *".into(),
        ..Source::default()
    };
    assert!(
        store
            .read_snapshot(&writing, SnapshotOptions::default())
            .await
            .is_err()
    );
}

/// The digest is fixed here, so that both engines and later versions must reproduce it.
async fn both_engines_give_the_same_snapshot(store: &Store) {
    with_videos(store, 40).await;
    let rows: Vec<_> = (0..400)
        .map(|n| {
            row(
                n * 7 % 31,
                1 + n * 11 % 40,
                START_US + (n * n % 97) as i64 * 500_000,
            )
        })
        .collect();
    store.write_interactions(LIKE, &rows).await.unwrap();
    store.write_interactions(SKIP, &rows[..90]).await.unwrap();
    let one = snapshot(store).await;
    assert_eq!(
        snapshot_sha256(&one.dataset),
        "f438a17f6d0f900ba5731534bbe64ade6eaf4bf9d9e5da9d1bd26848ede9cb80"
    );
    store.record(LIKE, user_id(77), video_id(1)).await.unwrap();
    let other = snapshot(store).await;
    assert_ne!(
        snapshot_sha256(&one.dataset),
        snapshot_sha256(&other.dataset)
    );
}
