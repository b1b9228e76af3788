//! Database access of a server that answers requests.

use super::{
    LIKE, SKIP, START_US, VECTORS, contract, row, user_id, vector_rows, video, video_id,
    with_videos,
};
use std::time::Duration;
use twotower_core::feature::Video;
use twotower_store::{
    Block, BlockKind, EmbeddingRow, ErasePlan, Source, Store, StoreError, StoreKind, StoreTime,
    UserState, VectorTable, VideoFacts,
};
use uuid::Uuid;

contract! {
    a_state_is_every_like_and_the_latest_skips_oldest_first,
    nobody_has_an_empty_state,
    blocks_come_and_go,
    a_block_that_nothing_would_match_is_refused,
    of_an_erased_user_there_is_no_state,
    facts_of_all_videos_ascend,
    facts_are_what_models_see_however_they_are_asked_for,
    many_pages_of_facts,
    new_vectors_are_found_by_time,
    whatever_is_written_changes_the_stamp,
    who_cannot_hear_of_changes_is_told,
}

fn block(kind: BlockKind, value: &str) -> Block {
    let value = value.to_owned();
    Block { kind, value }
}

async fn a_state_is_every_like_and_the_latest_skips_oldest_first(store: &Store) {
    with_videos(store, 9).await;
    for kind in [LIKE, SKIP] {
        let rows: Vec<_> = (1..=9)
            .map(|n| row(1, n, START_US + (n as i64 % 4) * 7))
            .collect();
        store.write_interactions(kind, &rows).await.unwrap();
    }
    // Times modulo 4: 4 8 | 1 5 9 | 2 6 | 3 7.
    let state = store.user_state(user_id(1), 3).await.unwrap();
    assert_eq!(state.likes, [4, 8, 1, 5, 9, 2, 6, 3, 7].map(video_id));
    assert_eq!(state.skips, [6, 3, 7].map(video_id));
    assert!(state.blocks.is_empty());
    let none = store.user_state(user_id(1), 0).await.unwrap();
    assert!(none.skips.is_empty() && none.likes.len() == 9);
    let all = store.user_state(user_id(1), UserState::EVERY_SKIP).await;
    let all = all.unwrap();
    assert_eq!((all.skips.len(), &all.skips), (9, &all.likes));
    // The next answer includes what was just done.
    store.record(LIKE, user_id(2), video_id(3)).await.unwrap();
    let state = store.user_state(user_id(2), 3).await.unwrap();
    assert_eq!(state.likes, [video_id(3)]);
}

async fn nobody_has_an_empty_state(store: &Store) {
    for user in [Uuid::nil(), Uuid::max(), user_id(1)] {
        let state = store.user_state(user, 5).await.unwrap();
        assert_eq!(state, UserState::default());
    }
}

async fn blocks_come_and_go(store: &Store) {
    // Blocks need no existing video: it may come later.
    let blocks = [
        block(BlockKind::Tag, "日本 \"{,}\\' 🎬"),
        block(BlockKind::Genre, "NULL"),
        block(BlockKind::Video, &video_id(1).to_string()),
        block(BlockKind::Maker, &"é".repeat(Block::MAX_CHARS)),
        block(BlockKind::Performer, " "),
    ];
    for block in &blocks {
        assert!(store.add_block(user_id(1), block).await.unwrap());
        assert!(!store.add_block(user_id(1), block).await.unwrap());
    }
    let mut expected = blocks.to_vec();
    expected.sort();
    let state = store.user_state(user_id(1), 5).await.unwrap();
    assert_eq!(state.blocks, expected);
    let other = store.user_state(user_id(2), 5).await.unwrap();
    assert!(other.blocks.is_empty());
    let gone = expected.remove(2);
    assert!(!store.remove_block(user_id(2), &gone).await.unwrap());
    assert!(store.remove_block(user_id(1), &gone).await.unwrap());
    assert!(!store.remove_block(user_id(1), &gone).await.unwrap());
    let state = store.user_state(user_id(1), 5).await.unwrap();
    assert_eq!(state.blocks, expected);
}

async fn a_block_that_nothing_would_match_is_refused(store: &Store) {
    let long = "x".repeat(Block::MAX_CHARS + 1);
    for (kind, value) in [
        (BlockKind::Tag, ""),
        (BlockKind::Tag, "a\0b"),
        (BlockKind::Genre, &long),
        (BlockKind::Video, "drama"),
        (BlockKind::Video, "A0000000-0000-0000-0000-000000000000"),
        (BlockKind::Video, "{a0000000-0000-0000-0000-000000000000}"),
    ] {
        let refused = store.add_block(user_id(1), &block(kind, value)).await;
        assert!(
            matches!(refused, Err(StoreError::Block { .. })),
            "{value:?}"
        );
    }
}

async fn of_an_erased_user_there_is_no_state(store: &Store) {
    with_videos(store, 1).await;
    let drama = block(BlockKind::Genre, "drama");
    for user in [1, 2] {
        store.add_block(user_id(user), &drama).await.unwrap();
    }
    let plan = ErasePlan::default();
    store.erase_user(user_id(1), &plan).await.unwrap();
    let state = store.user_state(user_id(1), 5).await;
    assert!(matches!(state, Err(StoreError::ErasedUser)));
    let back = store.add_block(user_id(1), &drama).await;
    assert!(matches!(back, Err(StoreError::ErasedUser)));
    assert!(!store.remove_block(user_id(1), &drama).await.unwrap());
    let rows = store.search_rows(user_id(1), &Source::default()).await;
    let rows = rows.unwrap();
    assert!(rows.found.is_empty(), "{:?}", rows.found);
    let blocks = rows.searched.iter();
    let blocks = blocks.filter(|column| column.contains("recommendation_blocks.user_id"));
    assert_eq!(blocks.count(), 1, "{:?}", rows.searched);
    let other = store.user_state(user_id(2), 5).await.unwrap();
    assert_eq!(other.blocks, [drama]);
}

async fn facts_of_all_videos_ascend(store: &Store) {
    let full = video(3);
    let empty = Video {
        id: video_id(1),
        ..Video::default()
    };
    let before = store.time().await.unwrap();
    let videos = [full.clone(), empty];
    store.write_videos(&videos).await.unwrap();
    let mut facts = Vec::new();
    let mut collect = |video| facts.push(video);
    store.for_each_video_facts(&mut collect).await.unwrap();
    assert_eq!(facts.len(), 2);
    assert_eq!(facts[0].id, video_id(1));
    assert_eq!(facts[0].title, "");
    assert_eq!((&facts[0].genre, facts[0].price), (&None, None));
    let came = StoreTime::from_us(facts[0].published_at_us.unwrap());
    assert!(before <= came && came <= store.time().await.unwrap());
    assert_eq!(facts[1].id, full.id);
    assert_eq!(facts[1].title, full.title);
    assert_eq!(
        (&facts[1].genre, &facts[1].maker),
        (&full.genre, &full.maker)
    );
    assert_eq!(facts[1].tags, full.tags);
    assert_eq!(facts[1].performers, full.performers);
    assert_eq!(facts[1].price, full.price);
    assert_eq!(facts[1].published_at_us, full.published_at_us);
}

async fn facts_are_what_models_see_however_they_are_asked_for(store: &Store) {
    let untidy = Video {
        title: "\u{3000}雪\n".into(),
        genre: Some("Comedy ".into()),
        maker: Some(" ".into()),
        price: Some(-1.0),
        tags: vec![String::new(), " b".into(), "a".into(), "b".into()],
        performers: vec!["\t".into(), "p ".into()],
        ..video(1)
    };
    let expected = VideoFacts {
        id: untidy.id,
        title: "雪".into(),
        genre: Some("Comedy".into()),
        maker: None,
        tags: vec!["a".into(), "b".into()],
        performers: vec!["p".into()],
        price: None,
        published_at_us: untidy.published_at_us,
    };
    store.write_videos(&[untidy, video(2)]).await.unwrap();
    let mut all = Vec::new();
    let mut collect = |video| all.push(video);
    store.for_each_video_facts(&mut collect).await.unwrap();
    assert_eq!(all, [expected, video(2).into()]);
    let asked = store.video_facts(&[1, 2].map(video_id)).await.unwrap();
    assert_eq!(asked.len(), 2);
    for facts in all {
        assert_eq!(asked[&facts.id], facts);
    }
}

async fn many_pages_of_facts(store: &Store) {
    const VIDEOS: u128 = 12_000;
    let videos: Vec<Video> = (1..=VIDEOS)
        .map(|n| Video {
            id: video_id(n),
            tags: vec![format!("tag {}", n % 100), format!("b {}", n % 7)],
            performers: (0..n % 3).map(|p| format!("p{p}")).collect(),
            ..Video::default()
        })
        .collect();
    store.write_videos(&videos).await.unwrap();
    let mut next = 0;
    let mut compare = |facts: VideoFacts| {
        let video = &videos[next];
        let (tags, performers) = (&video.tags, &video.performers);
        assert_eq!(facts.id, video.id);
        assert_eq!(facts.tags, [tags[1].clone(), tags[0].clone()]);
        assert_eq!(&facts.performers, performers);
        next += 1;
    };
    store.for_each_video_facts(&mut compare).await.unwrap();
    assert_eq!(next, videos.len());
}

async fn new_vectors_are_found_by_time(store: &Store) {
    let ids = [1, 2, 3].map(video_id);
    for table in [VectorTable::Videos, VectorTable::Users] {
        for version in [1, 2] {
            let rows = vector_rows(&ids);
            store.write_embeddings(table, version, &rows).await.unwrap();
        }
        let begin = StoreTime::from_us(0);
        let (all, vectors, first) = store
            .vectors_written_since(table, 1, begin, 2)
            .await
            .unwrap();
        assert_eq!(all, ids);
        assert_eq!(vectors.row(2), VECTORS[2]);
        let later = StoreTime::from_us(first.us() + 1);
        let (none, _, _) = store
            .vectors_written_since(table, 1, later, 2)
            .await
            .unwrap();
        assert!(none.is_empty());
        let changed = EmbeddingRow {
            id: ids[1],
            fingerprint: 5,
            vector: &VECTORS[1],
        };
        store.write_embeddings(table, 1, &[changed]).await.unwrap();
        let (changed, vectors, second) = store
            .vectors_written_since(table, 1, first, 2)
            .await
            .unwrap();
        assert_eq!(changed, [ids[1]]);
        assert_eq!(vectors.row(0), VECTORS[1]);
        assert!(second >= first);
        let overlap = first.before(Duration::from_mins(1));
        let (again, _, _) = store
            .vectors_written_since(table, 1, overlap, 2)
            .await
            .unwrap();
        assert_eq!(again, ids);
        let odd = store.vectors_written_since(table, 1, begin, 3).await;
        assert!(matches!(odd, Err(StoreError::Vector { .. })));
    }
}

async fn whatever_is_written_changes_the_stamp(store: &Store) {
    let rows = vector_rows(&[1, 2, 3].map(video_id));
    for table in [VectorTable::Videos, VectorTable::Users] {
        let stamp = async |version| store.vectors_stamp(table, version).await.unwrap();
        assert_eq!(stamp(1).await, (0, 0));
        let mut seen = Vec::new();
        // Inserted, replaced by the same, removed and added again.
        for written in [&rows[..2], &rows[2..], &rows[..1], &[], &rows[1..2]] {
            store.write_embeddings(table, 1, written).await.unwrap();
            if written.is_empty() {
                let gone = store.delete_embeddings(table, 1, &[rows[1].id]).await;
                assert_eq!(gone.unwrap(), 1);
            }
            store.write_embeddings(table, 2, &rows).await.unwrap();
            let now = stamp(1).await;
            assert_eq!(stamp(1).await, now);
            assert!(!seen.contains(&now), "{now:?} {seen:?}");
            seen.push(now);
        }
        let counts: Vec<i64> = seen.iter().map(|&(rows, _)| rows).collect();
        assert_eq!(counts, [2, 3, 3, 2, 3]);
    }
}

/// A pooler in transaction mode accepts LISTEN and delivers nothing.
async fn who_cannot_hear_of_changes_is_told(store: &Store) {
    let direct = std::env::var("TWOTOWER_TEST_POOLER").is_err();
    let can_hear = store.kind() == StoreKind::Postgres && direct;
    let changes = store.listen_user_changes().await.unwrap();
    assert_eq!(changes.is_some(), can_hear);
}
