use super::videos::VideosBuilder;
use super::{Catalogue, CatalogueRead, LoadedModel, Popularity, Snapshot};
use crate::config::{Choice, Conditions, Range};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Instant, SystemTime};
use twotower_core::embedding::Embeddings;
use twotower_core::index::{Attributes, Index, IndexKind, IndexOptions};
use twotower_core::recommend::Scored;
use twotower_core::tower::UserTower;
use twotower_store::{Block, BlockKind, VideoFacts};
use uuid::Uuid;

const CATALOGUE: Catalogue = Catalogue {
    groups: false,
    fresh_from_day: 0.0,
};

/// Names of tags: half of the videos have the first, hardly any has the last.
const TAGS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn facts(n: usize, random: &mut Pcg64Mcg) -> VideoFacts {
    let tags = (1..)
        .zip(TAGS)
        .filter(|&(n, _)| random.random_range(0..1 << n) == 0);
    let tags = tags.map(|(_, tag)| tag.to_owned()).collect();
    let price: u8 = random.random_range(0..50);
    VideoFacts {
        id: Uuid::from_u128(n as u128),
        tags,
        price: (price > 0).then(|| f32::from(price)),
        ..VideoFacts::default()
    }
}

/// A snapshot of `n` videos with likes, and `added` later ones; no model.
fn snapshot(n: usize, added: usize, random: &mut Pcg64Mcg) -> Snapshot {
    let mut builder = VideosBuilder::new(None, CATALOGUE);
    for n in 0..n {
        builder.push(&facts(n, random));
    }
    let likes = (0..n).map(|_| random.random_range(0..6)).collect();
    let added: Vec<_> = (n..n + added)
        .map(|n| (Uuid::from_u128(n as u128), Some(facts(n, random))))
        .collect();
    let videos = builder.finish().unwrap();
    Snapshot {
        revision: 0,
        popular_revision: 0,
        model: None,
        videos: videos.with_added(&added, CATALOGUE).unwrap().0,
        popularity: Popularity::new(likes),
        read: CatalogueRead::since(Instant::now()),
    }
}

/// Conditions in which each name occurs `repeats` times, which changes their cost but not their
/// meaning.
fn conditions(repeats: usize, random: &mut Pcg64Mcg) -> Conditions {
    let names = |random: &mut Pcg64Mcg| {
        let names = TAGS.iter().filter(|_| random.random_range(0..4) == 0);
        let names: Vec<&str> = names.copied().collect();
        let repeated = names.repeat(repeats);
        repeated.into_iter().map(str::to_owned).collect()
    };
    let bound = |random: &mut Pcg64Mcg| match random.random_range(0..3) {
        0 => Some(f32::from(random.random_range(0..60_u8))),
        _ => None,
    };
    Conditions {
        tags: Choice {
            any: names(random),
            none: names(random),
        },
        price: Range {
            min: bound(random),
            max: bound(random),
        },
        ..Conditions::default()
    }
}

proptest! {
    #[test]
    fn the_most_liked_are_those_of_looking_at_each_video_in_turn(
        n in 0usize..600, added in 0usize..6, repeats in 1usize..2000, seed in any::<u64>(),
    ) {
        let random = &mut Pcg64Mcg::seed_from_u64(seed);
        let snapshot = snapshot(n, added, random);
        for _ in 0..4 {
            let conditions = conditions(repeats, random);
            let filter = snapshot.videos.filter(&Conditions::default(), &conditions, &[], SystemTime::now());
            let excluded: Vec<u32> = (0..random.random_range(0..40)).map(|_| random.random_range(0..n as u32 + 9)).collect();
            let k = random.random_range(0..60);
            let passes = snapshot.videos.attributes().predicate(&filter);
            let mut all: Vec<u32> = (0..snapshot.videos.len() as u32)
                .filter(|item| passes(*item) && !excluded.contains(item))
                .collect();
            all.sort_by_key(|&item| (Reverse(snapshot.popularity.likes(item)), item));
            all.truncate(k);
            let expected: Vec<Scored> = all.into_iter().map(|item| Scored { item, score: snapshot.likes_share(item) }).collect();
            let (half, rest) = excluded.split_at(excluded.len() / 2);
            prop_assert_eq!(snapshot.most_liked(k, &[half, rest], &filter), expected, "{:?}", conditions);
        }
    }
}

/// A table may hold names with blanks around them, by which applications block.
#[test]
fn blanks_around_a_name_do_not_count_in_blocks_and_conditions() {
    let random = &mut Pcg64Mcg::seed_from_u64(1);
    let snapshot = snapshot(300, 0, random);
    let none = Conditions::default();
    let filter = |conditions: &Conditions, blocks: &[Block]| {
        let videos = &snapshot.videos;
        videos.filter(&none, conditions, blocks, SystemTime::now())
    };
    let block = |value: &str| Block {
        kind: BlockKind::Tag,
        value: value.to_owned(),
    };
    let blocked = filter(&none, &[block("a")]);
    assert_ne!(blocked, filter(&none, &[]));
    assert_eq!(blocked, filter(&none, &[block("a\u{3000}"), block(" ")]));
    let tags = |name: &str| Conditions {
        tags: Choice {
            any: vec![name.to_owned()],
            none: Vec::new(),
        },
        ..Conditions::default()
    };
    assert_eq!(filter(&tags("b"), &[]), filter(&tags(" b"), &[]));
    assert_ne!(filter(&tags("b"), &[]), filter(&tags("bb"), &[]));
}

#[test]
fn lists_by_likes_through_a_filter_are_slow_in_a_large_catalogue() {
    let random = &mut Pcg64Mcg::seed_from_u64(1);
    let (small, large) = (snapshot(300, 0, random), snapshot(5000, 0, random));
    assert!(!small.is_slow(false, 200) && !large.is_slow(false, 0));
    assert!(large.is_slow(false, 1));
    // Without a model no list is by vector.
    assert!(large.is_slow(true, 1));
}

/// A snapshot with a vector for each video, `added` of them written after the index was built.
fn modelled(n: usize, added: usize, dim: usize) -> Snapshot {
    let mut snapshot = snapshot(n, added, &mut Pcg64Mcg::seed_from_u64(1));
    let vectors = |n: usize| {
        let mut row = vec![0.0; dim];
        row[0] = 1.0;
        Embeddings::from_rows(dim, row.repeat(n)).unwrap()
    };
    let options = IndexOptions {
        kind: IndexKind::Inverted,
        ..IndexOptions::default()
    };
    let index = Index::new(vectors(n), Attributes::none(n), &options).unwrap();
    snapshot.model = Some(LoadedModel {
        version: 1,
        manifest_sha256: "cd".into(),
        user_tower: Arc::new(UserTower::zeros(vec![1.0], 0.5, 1, dim)),
        index: index.with_changes(&[], &vectors(added), &[]).unwrap(),
        read_at_us: AtomicI64::new(0),
        stamp: (0, 0),
    });
    snapshot
}

/// Inverted lists scan little, but vectors added since they were built are scanned in full.
#[test]
fn lists_by_vector_are_slow_where_much_came_since_the_index_was_built() {
    const DIM: usize = 2000;
    let fast = modelled(30, 1000, DIM);
    assert!(fast.has_lists() && !fast.is_slow(true, 0));
    assert!(modelled(30, 1100, DIM).is_slow(true, 0));
}
