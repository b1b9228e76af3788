//! Tables of our names that the application made, with times that no model can learn from.

use super::{LIKE, keyless, over, row, text, video};
use crate::database::execute;
use twotower_core::feature::Video;
use twotower_store::{InteractionKind, SnapshotOptions, Source};
use uuid::Uuid;

/// The time of a like is the application's to check in a table of its own, and a user's to choose
/// where it does not.
#[tokio::test]
async fn a_like_of_an_impossible_time_counts_nowhere() {
    for (id, index) in [
        ("uuid", ""),
        ("uuid", "CREATE UNIQUE INDEX ON likes (user_id, video_id)"),
        ("text", "CREATE INDEX ON likes (user_id)"),
    ] {
        let (url, store) = over(&keyless(id, index)).await;
        let videos: Vec<Video> = (1..=4).map(video).collect();
        store.write_videos(&videos).await.unwrap();
        let like = row(1, 1);
        for (kind, table) in [(LIKE, "likes"), (InteractionKind::Skip, "skips")] {
            store.write_interactions(kind, &[like]).await.unwrap();
            let odd = [(2, "NULL"), (3, "'infinity'"), (4, "'0001-01-01'")].map(|(n, time)| {
                let video = Uuid::from_u128(n);
                format!("('{}', '{video}', {time})", like.user)
            });
            let odd = format!(
                "INSERT INTO {table} (user_id, video_id, created_at) VALUES {}",
                odd.join(", ")
            );
            execute(&url, &odd).await;
        }
        let source = Source::default();
        let read = store.read_snapshot(&source, SnapshotOptions::default());
        let snapshot = read.await.unwrap();
        let rows = (snapshot.dataset.likes.len(), snapshot.dataset.skips.len());
        assert_eq!((rows, snapshot.cut_off_us), ((1, 1), Some(like.at_us)));
        let seen = store.last_seen(&source).await.unwrap();
        assert_eq!((seen.len(), seen[0].at_us), (1, like.at_us));
        let serving = store.with_source(&source).await.unwrap();
        let state = serving.user_state(like.user, 9).await.unwrap();
        assert_eq!(
            (&*state.likes, &*state.skips),
            (&[like.video][..], &[like.video][..])
        );
        let history = serving.user_history(like.user, 9).await.unwrap();
        assert_eq!((history.likes, history.skips), (state.likes, state.skips));
        assert_eq!(serving.liked_videos(like.user).await.unwrap(), [like.video]);
        assert_eq!(serving.like_counts().await.unwrap(), [(like.video, 1)]);
        assert_eq!(serving.active_users(9).await.unwrap()[0].likes, 1);
        let popular =
            "SELECT concat(count(*), ' ', min(video_id::text)) FROM twotower.popular_videos()";
        let expected = format!("1 {}", like.video);
        assert_eq!(text(&url, popular).await, expected, "{id} {index}");
    }
}

/// Nothing is known of a time in a type of the application's own, and all count.
#[tokio::test]
async fn a_like_counts_where_its_time_is_a_number() {
    let tables = "CREATE TABLE likes (user_id uuid NOT NULL, video_id uuid NOT NULL, created_at bigint, UNIQUE (user_id, video_id));
                  CREATE TABLE skips (LIKE likes INCLUDING ALL)";
    let (url, store) = over(tables).await;
    let videos: Vec<Video> = (1..=2).map(video).collect();
    store.write_videos(&videos).await.unwrap();
    let like = row(1, 1);
    for table in ["likes", "skips"] {
        let add = format!(
            "INSERT INTO {table} VALUES ('{}', '{}', 1767225600)",
            like.user, like.video
        );
        execute(&url, &add).await;
    }
    let state = store.user_state(like.user, 9).await.unwrap();
    assert_eq!(
        (&*state.likes, &*state.skips),
        (&[like.video][..], &[like.video][..])
    );
    let history = store.user_history(like.user, 9).await.unwrap();
    assert_eq!((history.likes, history.skips), (state.likes, state.skips));
    assert_eq!(store.liked_videos(like.user).await.unwrap(), [like.video]);
    assert_eq!(store.like_counts().await.unwrap(), [(like.video, 1)]);
    let popular = "SELECT min(video_id::text) FROM twotower.popular_videos()";
    assert_eq!(text(&url, popular).await, like.video.to_string());
}
