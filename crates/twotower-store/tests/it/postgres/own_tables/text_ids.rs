//! Ids of users that are text in tables that the application made before us.

use super::{LIKE, event, over, rows_and_pairs, video};
use crate::database::execute;
use twotower_core::feature::Video;
use twotower_store::{EventKind, EventPolicy, SnapshotOptions, Source};
use uuid::Uuid;

/// Training reads each usual spelling of an id, and so does serving, without a source of the
/// operator's.
#[tokio::test]
async fn text_ids_of_our_own_tables_are_served_however_they_are_spelled() {
    for id in ["text", "uuid"] {
        let (url, store) = over(&format!(
            "CREATE TABLE likes (user_id text, video_id {id}, created_at timestamptz DEFAULT now(), PRIMARY KEY (user_id, video_id));
             CREATE TABLE skips (LIKE likes INCLUDING ALL)"
        ))
        .await;
        let videos: Vec<Video> = (1..=10).map(video).collect();
        store.write_videos(&videos).await.unwrap();
        let user = Uuid::from_u128(0xabcd_ef00_0000_4000_8000_00ab_cdef_0000);
        let (text, plain) = (user.to_string(), user.simple().to_string());
        let spelled = [text.to_uppercase(), plain.to_uppercase(), plain, text]
            .map(|id| [format!("{{{id}}}"), id])
            .concat();
        for (n, spelled) in (1..).zip(&spelled) {
            let video = Uuid::from_u128(n);
            let like = format!("INSERT INTO likes VALUES ('{spelled}', '{video}')");
            execute(&url, &like).await;
        }
        let skip = format!(
            "INSERT INTO skips VALUES ('{}', '{}')",
            spelled[0],
            Uuid::from_u128(9)
        );
        execute(&url, &skip).await;

        let source = Source::default();
        let options = SnapshotOptions::default();
        let snapshot = store.read_snapshot(&source, options).await.unwrap();
        assert_eq!(snapshot.users, [user], "{id}");
        let data = &snapshot.dataset;
        assert_eq!((data.likes.len(), data.skips.len()), (8, 1), "{id}");
        let serving = store.with_source(&source).await.unwrap();
        assert!(!serving.reads_elsewhere(LIKE));
        let liked: Vec<Uuid> = (1..=8).map(Uuid::from_u128).collect();
        let sorted = |mut ids: Vec<Uuid>| {
            ids.sort_unstable();
            ids
        };
        let state = serving.user_state(user, 9).await.unwrap();
        assert_eq!(state.skips, [Uuid::from_u128(9)], "{id}");
        assert_eq!(sorted(state.likes), liked, "{id}");
        let history = serving.user_history(user, 9).await.unwrap();
        assert_eq!(sorted(history.likes), liked, "{id}");
        let all = serving.liked_videos(user).await.unwrap();
        assert_eq!(sorted(all), liked, "{id}");

        // What is there in any spelling is not written again.
        for &video in &liked {
            assert!(!serving.record(LIKE, user, video).await.unwrap(), "{id}");
        }
        let events = [
            event(1, EventKind::Like, 1),
            event(2, EventKind::Like, 9),
            event(3, EventKind::Skip, 9),
        ];
        let recorded = serving.record_events(user, &events, EventPolicy::None);
        assert_eq!(recorded.await.unwrap().accepted, 3, "{id}");
        assert!(
            serving
                .record(LIKE, user, Uuid::from_u128(10))
                .await
                .unwrap()
        );
        assert_eq!(rows_and_pairs(&url, "likes").await, "10 10", "{id}");
        assert_eq!(rows_and_pairs(&url, "skips").await, "1 1", "{id}");
    }
}
