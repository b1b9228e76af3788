//! Likes and skips.

use super::{
    LIKE, SKIP, START_US, VECTORS, contract, row, snapshot, user_id, video_id, with_videos,
};
use twotower_core::feature::{Video, VideoRef};
use twotower_store::{Counts, EmbeddingRow, Store, StoreError, VectorTable};
use uuid::Uuid;

contract! {
    interactions_are_written_once,
    the_earliest_of_a_call_is_kept,
    an_unknown_video_is_named_and_nothing_written,
    record_tells_new_from_known,
    histories_are_the_latest_oldest_first,
    activity_is_counted,
    many_calls_at_once,
    many_rows_in_one_call,
}

async fn interactions_are_written_once(store: &Store) {
    with_videos(store, 3).await;
    let rows = [
        row(1, 1, START_US),
        row(1, 2, START_US),
        row(2, 1, START_US),
    ];
    assert_eq!(store.write_interactions(LIKE, &rows).await.unwrap(), 3);
    let more = [row(1, 1, START_US + 5), row(2, 3, START_US)];
    assert_eq!(store.write_interactions(LIKE, &more).await.unwrap(), 1);
    assert_eq!(store.write_interactions(SKIP, &rows[..1]).await.unwrap(), 1);
    assert_eq!(store.write_interactions(SKIP, &[]).await.unwrap(), 0);
    let counts = store.counts().await.unwrap();
    assert_eq!(
        counts,
        Counts {
            videos: 3,
            likes: 4,
            skips: 1,
            users: 2
        }
    );
    let impossible = store.write_interactions(LIKE, &[row(1, 3, -1)]).await;
    assert!(matches!(
        impossible,
        Err(StoreError::Time {
            table: "likes",
            at_us: -1
        })
    ));
}

async fn the_earliest_of_a_call_is_kept(store: &Store) {
    with_videos(store, 1).await;
    let rows = [row(1, 1, START_US + 9_000_000), row(1, 1, START_US)];
    assert_eq!(store.write_interactions(LIKE, &rows).await.unwrap(), 1);
    let snapshot = snapshot(store).await;
    assert_eq!(snapshot.cut_off_us, Some(START_US));
}

async fn an_unknown_video_is_named_and_nothing_written(store: &Store) {
    with_videos(store, 2).await;
    let rows = [
        row(1, 1, START_US),
        row(1, 5, START_US),
        row(1, 2, START_US),
    ];
    let error = store.write_interactions(LIKE, &rows).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownVideo(id) if id == video_id(5)),
        "{error}"
    );
    assert_eq!(store.counts().await.unwrap().likes, 0);
    let error = store
        .record(SKIP, user_id(1), video_id(5))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::UnknownVideo(id) if id == video_id(5)));
}

async fn record_tells_new_from_known(store: &Store) {
    with_videos(store, 1).await;
    assert!(store.record(LIKE, user_id(1), video_id(1)).await.unwrap());
    assert!(!store.record(LIKE, user_id(1), video_id(1)).await.unwrap());
    assert!(store.record(SKIP, user_id(1), video_id(1)).await.unwrap());
    let liked = store.liked_videos(user_id(1)).await.unwrap();
    assert_eq!(liked, [video_id(1)]);
    assert!(store.liked_videos(user_id(2)).await.unwrap().is_empty());
    let recorded = snapshot(store).await.cut_off_us.unwrap();
    assert!(
        recorded > 1_700_000_000_000_000,
        "the clock is in microseconds"
    );
}

async fn histories_are_the_latest_oldest_first(store: &Store) {
    with_videos(store, 9).await;
    let likes: Vec<_> = (1..=9)
        .map(|n| row(1, n, START_US + (n as i64 % 4) * 7))
        .collect();
    store.write_interactions(LIKE, &likes).await.unwrap();
    store
        .write_interactions(SKIP, &[row(1, 5, START_US)])
        .await
        .unwrap();
    let history = store.user_history(user_id(1), 4).await.unwrap();
    // Times modulo 4: 4 8 | 1 5 9 | 2 6 | 3 7.
    assert_eq!(history.likes, [2, 6, 3, 7].map(video_id));
    assert_eq!(history.skips, [video_id(5)]);
    let nobody = store.user_history(user_id(2), 4).await.unwrap();
    assert!(nobody.likes.is_empty() && nobody.skips.is_empty());
}

async fn activity_is_counted(store: &Store) {
    with_videos(store, 3).await;
    let likes = [
        row(3, 1, START_US),
        row(2, 1, START_US),
        row(2, 2, START_US),
        row(1, 1, START_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let mut counts = store.like_counts().await.unwrap();
    counts.sort_unstable();
    assert_eq!(counts, [(video_id(1), 3), (video_id(2), 1)]);
    let users = store.active_users(2).await.unwrap();
    let users: Vec<_> = users.iter().map(|user| (user.user, user.likes)).collect();
    assert_eq!(users, [(user_id(2), 2), (user_id(1), 1)]);
}

/// More callers than connections; each gets its own answers.
async fn many_calls_at_once(store: &Store) {
    with_videos(store, 9).await;
    let calls = (0..90_u128).map(|n| async move {
        let (user, video) = (user_id(n / 9), video_id(1 + n % 9));
        assert!(store.record(LIKE, user, video).await.unwrap());
        let liked = store.liked_videos(user).await.unwrap();
        assert!(liked.contains(&video));
        assert_eq!(store.active_model().await.unwrap(), None);
        let history = store.user_history(user, 100).await.unwrap();
        assert!(history.likes.contains(&video) && history.skips.is_empty());
        let cards = store.video_cards(&[video]).await.unwrap();
        assert_eq!(cards[0].id, video);
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(store.counts().await.unwrap().likes, 90);
}

/// More than one chunk of each kind.
async fn many_rows_in_one_call(store: &Store) {
    const VIDEOS: u128 = 12_000;
    let videos: Vec<Video> = (1..=VIDEOS)
        .map(|n| Video {
            id: video_id(n),
            tags: vec![format!("tag {}", n % 100)],
            ..Video::default()
        })
        .collect();
    let written = store.write_videos(&videos).await.unwrap();
    assert_eq!(written.inserted, VIDEOS as u64);
    let rows: Vec<_> = (0..30_000)
        .map(|n| row(n % 1_000, 1 + n % VIDEOS, START_US + n as i64))
        .collect();
    assert_eq!(
        store.write_interactions(LIKE, &rows).await.unwrap(),
        30_000 - 18_000
    );
    let ids: Vec<Uuid> = videos.iter().map(|video| video.id).collect();
    let vectors: Vec<_> = ids
        .iter()
        .map(|&id| EmbeddingRow {
            id,
            fingerprint: 1,
            vector: &VECTORS[0],
        })
        .collect();
    let table = VectorTable::Videos;
    store.write_embeddings(table, 1, &vectors).await.unwrap();
    assert_eq!(store.read_embeddings(table, 1, 2).await.unwrap().0, ids);
    assert_eq!(store.video_cards(&ids).await.unwrap().len(), ids.len());
    let deleted = store.delete_embeddings(table, 1, &ids).await.unwrap();
    assert_eq!(deleted, VIDEOS as u64);
    let snapshot = snapshot(store).await;
    assert_eq!(snapshot.dataset.likes.len(), 12_000);
    let stored = snapshot.dataset.catalogue.videos().map(VideoRef::to_video);
    assert_eq!(stored.collect::<Vec<_>>(), videos);
}
