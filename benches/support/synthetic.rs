//! Generated likes and videos in the shape that benches/python/data.py describes, which cost the
//! same to train on.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashSet;
use std::error::Error;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use uuid::Uuid;

/// Letters of a title; with the spaces around them they make 25 character n-grams.
const TITLE_LETTERS: usize = 12;

/// A like is left out after this many draws.
const REDRAWS: usize = 20;

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) likes: usize,
    pub(crate) users: usize,
    pub(crate) videos: usize,
    /// Whether videos have features besides their id.
    pub(crate) features: bool,
}

/// Log-normal numbers of likes per user (σ = 1), videos drawn with probability 1 / rank, uniform
/// features. No skips.
pub(crate) fn generate(sizes: Sizes) -> Result<Dataset, Box<dyn Error + Send + Sync>> {
    let mut random = Pcg64Mcg::seed_from_u64(42);
    let videos = (0..sizes.videos).map(|n| video(n, sizes.features, &mut random));
    let catalogue = Catalogue::new(videos)?;
    let mut cumulative = Vec::with_capacity(sizes.videos);
    let mut sum = 0.0;
    for rank in 1..=sizes.videos {
        sum += 1.0 / rank as f64;
        cumulative.push(sum);
    }
    let mut video_of_rank: Vec<u32> = (0..sizes.videos as u32).collect();
    for rank in (1..sizes.videos).rev() {
        video_of_rank.swap(rank, random.random_range(0..=rank));
    }
    let mean = sizes.likes as f64 / sizes.users as f64;
    let mut likes = Vec::with_capacity(sizes.likes);
    let mut liked = HashSet::new();
    for user in 0..sizes.users as u32 {
        let wanted = (mean.ln() - 0.5 + normal(&mut random)).exp().round();
        let wanted = (wanted as usize).clamp(1, (sizes.videos / 4).max(1));
        liked.clear();
        for at in 0..wanted as u32 {
            for _ in 0..REDRAWS {
                let draw = random.random_range(0.0..sum);
                let rank = cumulative.partition_point(|&below| below <= draw);
                let item = video_of_rank[rank.min(sizes.videos - 1)];
                if liked.insert(item) {
                    likes.push(Interaction { user, item, at });
                    break;
                }
            }
        }
    }
    Ok(Dataset {
        catalogue,
        users: sizes.users,
        likes,
        skips: Vec::new(),
    })
}

fn video(n: usize, features: bool, random: &mut Pcg64Mcg) -> Video {
    let mut video = Video {
        id: Uuid::from_u128(n as u128),
        ..Video::default()
    };
    if features {
        let mut names = |prefix: &str, choices: u32, count: usize| -> Vec<String> {
            let mut names = HashSet::new();
            while names.len() < count {
                names.insert(format!("{prefix}{}", random.random_range(0..choices)));
            }
            let mut names: Vec<String> = names.into_iter().collect();
            names.sort();
            names
        };
        video.genre = names("genre", 20, 1).pop();
        video.maker = names("maker", 500, 1).pop();
        video.tags = names("tag", 1000, 3);
        video.performers = names("performer", 5000, 2);
        video.title = (0..TITLE_LETTERS)
            .map(|_| char::from(random.random_range(b'a'..=b'z')))
            .collect();
        video.price = Some(random.random_range(1.0..100.0));
        video.duration_seconds = Some(random.random_range(60.0..7200.0));
        video.published_at_us = Some(random.random_range(0..1_700_000_000) * 1_000_000);
    }
    video
}

/// Standard normal (Box & Muller 1958).
fn normal(random: &mut Pcg64Mcg) -> f64 {
    let (radius, angle) = (
        random.random_range(f64::MIN_POSITIVE..1.0),
        random.random_range(0.0..std::f64::consts::TAU),
    );
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}
