//! Health checks of a database.

use super::{
    DAY_US, LIKE, START_US, contract, model, promotion, row, user_id, vector_rows, video_id,
    with_videos,
};
use std::time::{SystemTime, UNIX_EPOCH};
use twotower_store::inspection::{
    Completeness, DataFacts, DimensionSample, LikeCoverage, Reaction,
};
use twotower_store::{
    EmbeddingRow, EventKind, EventPolicy, ModelState, NewEvent, SnapshotOptions, Source, Store,
    VectorTable,
};
use uuid::Uuid;

contract! {
    the_generation_that_readers_see,
    vectors_of_another_dimension_are_found,
    data_and_missing_vectors_are_counted,
    what_users_liked_of_what_they_were_shown,
    the_latest_likes_are_looked_up,
}

fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros() as i64
}

/// Version 3 active, with vectors of videos 1 and 2.
async fn with_active(store: &Store) {
    with_videos(store, 3).await;
    store.register_model(&model(3)).await.unwrap();
    let rows = vector_rows(&[1, 2].map(video_id));
    store
        .write_embeddings(VectorTable::Videos, 3, &rows)
        .await
        .unwrap();
    store
        .set_model_state(3, ModelState::Candidate)
        .await
        .unwrap();
    store.activate_model(&promotion(3)).await.unwrap();
}

async fn the_generation_that_readers_see(store: &Store) {
    assert_eq!(store.generation().await.unwrap(), None);
    with_active(store).await;
    let generation = store.generation().await.unwrap().unwrap();
    assert_eq!((generation.version, generation.embedding_dim), (3, 2));
    assert_eq!(generation.users_us, None);
    let minute = 0..60_000_000;
    assert!(
        minute.contains(&generation.videos_us.unwrap()),
        "{generation:?}"
    );
    assert!(minute.contains(&generation.active_us), "{generation:?}");
    // Vectors computed elsewhere are not an update's work.
    for (fingerprint, written) in [(0, false), (7, true)] {
        let user = [EmbeddingRow {
            id: user_id(1),
            fingerprint,
            vector: &[0.6, 0.8],
        }];
        store
            .write_embeddings(VectorTable::Users, 3, &user)
            .await
            .unwrap();
        let generation = store.generation().await.unwrap().unwrap();
        assert_eq!(generation.users_us.is_some(), written, "{generation:?}");
    }
}

async fn vectors_of_another_dimension_are_found(store: &Store) {
    with_active(store).await;
    for (table, dim, wrong, example) in [
        (VectorTable::Videos, 2, 0, None),
        (VectorTable::Videos, 64, 2, Some(2)),
    ] {
        let sample = store.sample_dimensions(table, 3, dim).await.unwrap();
        let expected = DimensionSample {
            rows: 2,
            wrong,
            example,
        };
        assert_eq!(sample, expected);
    }
    let user = [EmbeddingRow {
        id: user_id(1),
        fingerprint: 0,
        vector: &[0.0, 0.6, 0.8],
    }];
    store
        .write_embeddings(VectorTable::Users, 3, &user)
        .await
        .unwrap();
    let sample = store
        .sample_dimensions(VectorTable::Users, 3, 2)
        .await
        .unwrap();
    assert_eq!((sample.wrong, sample.example), (1, Some(3)));
}

async fn data_and_missing_vectors_are_counted(store: &Store) {
    with_active(store).await;
    let likes = [
        row(1, 1, START_US),
        row(1, 2, now_us() - DAY_US),
        row(2, 1, now_us() - 200 * DAY_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let expected = DataFacts {
        likes: 3,
        recent_likes: likes
            .iter()
            .filter(|like| like.at_us > now_us() - 183 * DAY_US)
            .count() as u64,
        users: 2,
        liked_videos: 2,
        videos: 3,
    };
    let source = Source::default();
    assert_eq!(store.data_facts(&source).await.unwrap(), expected);
    let other = Source {
        likes: "SELECT user_id, video_id, created_at FROM likes LIMIT 1;".into(),
        ..source.clone()
    };
    assert_eq!(store.data_facts(&other).await.unwrap().likes, 1);
    // A query may return a like twice, and one of a missing video: only rows used in training
    // count.
    let likes = &source.likes;
    let twice = Source {
        videos: format!("{} WHERE maker IS NOT NULL", source.videos),
        likes: format!("{likes} UNION ALL {likes};"),
        ..source.clone()
    };
    let expected = DataFacts {
        likes: 1,
        recent_likes: 1,
        users: 1,
        liked_videos: 1,
        videos: 1,
    };
    assert_eq!(store.data_facts(&twice).await.unwrap(), expected);
    let snapshot = store.read_snapshot(&twice, SnapshotOptions::default());
    let learned = snapshot.await.unwrap().dataset;
    assert_eq!((learned.likes.len(), learned.catalogue.len()), (1, 1));
    let completeness = store.completeness(&source, 3).await.unwrap();
    let expected = Completeness {
        videos: 3,
        missing: 1,
    };
    assert_eq!(completeness, expected);
}

async fn what_users_liked_of_what_they_were_shown(store: &Store) {
    with_videos(store, 9).await;
    let (now_us, hour_us) = (now_us(), DAY_US / 24);
    let event = |id: u128, kind, video, hours: i64| NewEvent {
        event_id: Uuid::from_u128(id),
        kind,
        video: video_id(video),
        watch_fraction: None,
        model_version: None,
        request_id: None,
        position: None,
        at_us: Some(now_us - hours * hour_us),
    };
    let shown = |id, video, hours| event(id, EventKind::Impression, video, hours);
    let liked = |id, video, hours| event(id, EventKind::Like, video, hours);
    let events = [
        // Today: too recent to be liked within a day.
        shown(1, 1, 23),
        liked(2, 1, 22),
        // Liked the same day.
        shown(3, 2, 3 * 24),
        liked(4, 2, 2 * 24 + 1),
        // Shown before, and again this week.
        shown(5, 3, 10 * 24),
        shown(6, 3, 2 * 24),
        // Liked two days later, which users of this week could not do yet.
        shown(7, 4, 20 * 24),
        liked(8, 4, 18 * 24),
        // Shown again, after an impression before both spans.
        shown(9, 5, 40 * 24),
        shown(10, 5, 20 * 24),
        liked(11, 5, 20 * 24),
        shown(12, 6, 37 * 24),
        shown(13, 6, 3 * 24),
        // On the last day of each span; the like's clock was behind.
        shown(14, 7, 8 * 24 - 1),
        shown(15, 8, 36 * 24 - 1),
        liked(16, 8, 36 * 24),
        // Liked without an impression.
        liked(17, 9, 24),
    ];
    let all = EventPolicy::All;
    store.record_events(user_id(1), &events, all).await.unwrap();
    let mut seen = Vec::new();
    store
        .for_each_reaction(&mut |reaction| seen.push(reaction))
        .await
        .unwrap();
    let expected = Reaction {
        recent_shown: 2,
        recent_liked: 1,
        earlier_shown: 3,
        earlier_liked: 1,
    };
    assert_eq!(seen, [expected]);
}

async fn the_latest_likes_are_looked_up(store: &Store) {
    with_active(store).await;
    let now = now_us();
    let likes = [
        row(1, 1, now - DAY_US),
        row(1, 3, now - DAY_US),
        row(2, 3, now - 8 * DAY_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let coverage = store.like_coverage(&Source::default(), 3).await.unwrap();
    assert_eq!(coverage, LikeCoverage { likes: 2, known: 1 });
}
