//! Migrations and the catalogue.

use super::{contract, snapshot, video, video_id, with_videos};
use twotower_core::feature::{Video, VideoRef};
use twotower_store::{
    Counts, LONGEST_NAME, Store, StoreError, VideoColumn, VideoColumns, VideosWritten,
};

contract! {
    migrations_apply_once,
    videos_are_inserted_changed_and_left_alone,
    columns_that_are_not_written_stay,
    untidy_texts_can_be_set_right,
    videos_that_cannot_be_kept_are_refused,
    titles_and_cards_come_back,
}

async fn migrations_apply_once(store: &Store) {
    assert!(store.pending_migrations().await.unwrap().is_empty());
    assert!(store.migrate().await.unwrap().is_empty());
    store.ping().await.unwrap();
    assert_eq!(store.counts().await.unwrap(), Counts::default());
}

async fn videos_are_inserted_changed_and_left_alone(store: &Store) {
    let bare = Video {
        id: video_id(9),
        ..Video::default()
    };
    let mut videos = vec![video(2), video(1), bare];
    let written = |inserted, updated| VideosWritten { inserted, updated };
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(3, 0));
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(0, 0));
    videos[0].tags = vec!["new".into(), "é".into()];
    videos[1].price = None;
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(0, 2));
    videos.push(video(3));
    videos[0].performers.clear();
    videos[2].title = "no longer bare".into();
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(1, 2));
    assert_eq!(store.write_videos(&[]).await.unwrap(), written(0, 0));
    let catalogue = snapshot(store).await.dataset.catalogue;
    videos.sort_by_key(|video| video.id);
    let stored: Vec<Video> = catalogue.videos().map(VideoRef::to_video).collect();
    assert_eq!(stored, videos);
    // Names are sorted and unique; of two videos with one id the last counts.
    let twice = Video {
        tags: vec!["b".into(), "a".into(), "b".into()],
        ..video(4)
    };
    let videos = [video(4), twice];
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(1, 0));
    let cards = store.video_cards(&[video_id(4)]).await.unwrap();
    assert_eq!(cards[0].tags, ["a", "b"]);
}

async fn columns_that_are_not_written_stay(store: &Store) {
    let written = |inserted, updated| VideosWritten { inserted, updated };
    let stored = async || -> Vec<Video> {
        let catalogue = snapshot(store).await.dataset.catalogue;
        catalogue.videos().map(VideoRef::to_video).collect()
    };
    with_videos(store, 2).await;
    let known: VideoColumns = [VideoColumn::Title, VideoColumn::Price, VideoColumn::Tags]
        .into_iter()
        .collect();
    let partly = |n, price| Video {
        id: video_id(n),
        title: "Travel".into(),
        price,
        tags: vec!["sea".into()],
        performers: vec!["not known to be".into()],
        ..Video::default()
    };
    // 1 changes, 2 does not, 3 is new.
    let same = Video {
        description: "not known to be".into(),
        genre: None,
        ..video(2)
    };
    let videos = [partly(1, None), same, partly(3, Some(250.0))];
    let outcome = store.write_video_columns(known, &videos).await.unwrap();
    assert_eq!(outcome, written(1, 1));
    let outcome = store.write_video_columns(known, &videos).await.unwrap();
    assert_eq!(outcome, written(0, 0));
    let changed = Video {
        title: "Travel".into(),
        price: None,
        tags: vec!["sea".into()],
        ..video(1)
    };
    let new = Video {
        performers: vec![],
        ..partly(3, Some(250.0))
    };
    assert_eq!(stored().await, [changed.clone(), video(2), new.clone()]);
    // Only one column changes at a time.
    let empty = Video {
        id: video_id(1),
        ..Video::default()
    };
    let mut left = changed;
    for column in VideoColumn::ALL {
        let before = left.clone();
        match column {
            VideoColumn::Title => left.title.clear(),
            VideoColumn::Description => left.description.clear(),
            VideoColumn::Genre => left.genre = None,
            VideoColumn::Maker => left.maker = None,
            VideoColumn::Price => left.price = None,
            VideoColumn::DurationSeconds => left.duration_seconds = None,
            VideoColumn::PublishedAt => left.published_at_us = None,
            VideoColumn::ThumbnailUrl => left.thumbnail_url = None,
            VideoColumn::Tags => left.tags.clear(),
            VideoColumn::Performers => left.performers.clear(),
        }
        let outcome = store
            .write_video_columns([column].into_iter().collect(), std::slice::from_ref(&empty))
            .await
            .unwrap();
        assert_eq!(outcome, written(0, u64::from(left != before)), "{column:?}");
        assert_eq!(stored().await, [left.clone(), video(2), new.clone()]);
    }
    assert_eq!(left, empty);
}

/// Models see trimmed text, and yet rows with and without blanks differ.
async fn untidy_texts_can_be_set_right(store: &Store) {
    let written = |inserted, updated| VideosWritten { inserted, updated };
    let untidy = Video {
        title: " 雪 ".into(),
        genre: Some(" ".into()),
        price: Some(-1.0),
        tags: vec![String::new(), " a".into(), "a".into()],
        performers: vec!["p ".into()],
        ..video(1)
    };
    let tidied = Video {
        title: "雪".into(),
        genre: None,
        price: None,
        tags: vec!["a".into()],
        performers: vec!["p".into()],
        ..video(1)
    };
    let outcome = async |video: &Video| store.write_videos(std::slice::from_ref(video)).await;
    assert_eq!(outcome(&untidy).await.unwrap(), written(1, 0));
    assert_eq!(outcome(&untidy).await.unwrap(), written(0, 0));
    assert_eq!(outcome(&tidied).await.unwrap(), written(0, 1));
    assert_eq!(outcome(&tidied).await.unwrap(), written(0, 0));
    let titles = store.video_titles().await.unwrap();
    assert_eq!(titles, [(video_id(1), "雪".into())]);
    assert_eq!(outcome(&untidy).await.unwrap(), written(0, 1));
    // Cards are in the form that models see.
    let cards = store.video_cards(&[video_id(1)]).await.unwrap();
    assert_eq!((&*cards[0].title, cards[0].price), ("雪", None));
    assert_eq!(cards[0].tags, ["a"]);
}

async fn videos_that_cannot_be_kept_are_refused(store: &Store) {
    let mut bad = [video(1), video(2), video(3), video(4), video(5)];
    bad[0].price = Some(f32::NAN);
    bad[1].title = "nul \0".into();
    bad[2].published_at_us = Some(i64::MIN);
    bad[3].tags = vec!["nul \0".into()];
    bad[4].performers = vec!["a".into(), "b".repeat(LONGEST_NAME + 1)];
    let fields = ["price", "title", "published_at", "tags", "performers"];
    for (video, expected) in bad.iter().zip(fields) {
        let error = store
            .write_videos(&[self::video(9), video.clone()])
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Video { field, id, .. } if field == expected && id == video.id),
            "{error}"
        );
    }
    assert_eq!(store.counts().await.unwrap().videos, 0);
    // Smaller than any index limit, even for text that cannot be compressed.
    let long = (0..LONGEST_NAME as u64).map(|n| char::from(b'!' + (n * n * n % 89) as u8));
    let longest = Video {
        tags: vec![long.collect()],
        performers: vec!["雪".repeat(LONGEST_NAME / 3)],
        ..video(1)
    };
    store.write_videos(&[longest]).await.unwrap();
}

async fn titles_and_cards_come_back(store: &Store) {
    with_videos(store, 3).await;
    let titles = store.video_titles().await.unwrap();
    assert_eq!(titles, [1, 2, 3].map(|n| (video_id(n), video(n).title)));
    let ids = [3, 77, 1, 3].map(video_id);
    let cards = store.video_cards(&ids).await.unwrap();
    assert_eq!(
        cards.iter().map(|card| card.id).collect::<Vec<_>>(),
        [3, 1, 3].map(video_id)
    );
    let expected = video(1);
    assert_eq!(cards[1].title, expected.title);
    assert_eq!(cards[1].maker, None);
    assert_eq!(cards[1].price, expected.price);
    assert_eq!(cards[1].tags, expected.tags);
    assert_eq!(cards[1].thumbnail_url, expected.thumbnail_url);
    assert!(store.video_cards(&[]).await.unwrap().is_empty());
}
