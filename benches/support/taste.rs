//! Generated likes of users with tastes, so that models trained on them have vectors with a
//! realistic structure: clusters by maker and performer inside clusters by genre, popular videos
//! and a long tail.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashSet;
use std::error::Error;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use uuid::Uuid;

const GENRES: usize = 24;
const TAGS_OF_A_GENRE: usize = 40;
const FAVOURITE_GENRES: usize = 2;
const FAVOURITE_MAKERS: usize = 4;
const FAVOURITE_PERFORMERS: usize = 6;

/// Videos with something in common, the most popular first.
#[derive(Debug, Clone, Default)]
struct Group(Vec<u32>);

impl Group {
    /// One of them, the one at rank r with a probability proportional to 1 / r.
    fn draw(&self, random: &mut Pcg64Mcg) -> Option<u32> {
        let n = self.0.len() as f64;
        let rank = n.powf(random.random_range(0.0..1.0)) as usize;
        self.0
            .get(rank.saturating_sub(1).min(self.0.len().saturating_sub(1)))
            .copied()
    }
}

/// `videos` videos and about `likes` likes of `users` users, the same number each: four in ten of a
/// favourite maker, three of a favourite performer, two of a favourite genre, one of any video. No
/// skips.
pub(crate) fn generate(
    videos: usize,
    users: usize,
    likes: usize,
) -> Result<Dataset, Box<dyn Error + Send + Sync>> {
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let (makers, performers) = ((videos / 200).max(50), (videos / 60).max(100));
    let mut by_genre = vec![Group::default(); GENRES];
    let mut by_maker = vec![Group::default(); makers];
    let mut by_performer = vec![Group::default(); performers];
    let mut all = Group::default();
    let mut rows = Vec::with_capacity(videos);
    // Position is popularity here. Ids are in the same order, and neither training nor search uses
    // either.
    for position in 0..videos as u32 {
        let maker = random.random_range(0..makers);
        // A maker has a main genre, and so does a performer.
        let genre = if random.random_range(0.0..1.0) < 0.8 {
            maker % GENRES
        } else {
            random.random_range(0..GENRES)
        };
        let cast: Vec<usize> = (0..2)
            .map(|_| random.random_range(0..performers / GENRES) * GENRES + genre)
            .collect();
        by_genre[genre].0.push(position);
        by_maker[maker].0.push(position);
        for &performer in &cast {
            by_performer[performer].0.push(position);
        }
        all.0.push(position);
        let mut tags: Vec<String> = (0..3)
            .map(|_| format!("tag{genre}-{}", random.random_range(0..TAGS_OF_A_GENRE)))
            .collect();
        tags.sort();
        tags.dedup();
        let mut performers: Vec<String> = cast.iter().map(|n| format!("performer{n}")).collect();
        performers.sort();
        performers.dedup();
        rows.push(Video {
            id: Uuid::from_u128(u128::from(position)),
            genre: Some(format!("genre{genre}")),
            maker: Some(format!("maker{maker}")),
            tags,
            performers,
            price: Some(random.random_range(1.0..100.0)),
            duration_seconds: Some(random.random_range(60.0..7200.0)),
            published_at_us: Some(random.random_range(0..1_700_000_000) * 1_000_000),
            ..Video::default()
        });
    }
    let mut of_users = Vec::with_capacity(likes);
    let mut liked = HashSet::new();
    for user in 0..users as u32 {
        let genres: Vec<usize> = (0..FAVOURITE_GENRES)
            .map(|_| random.random_range(0..GENRES))
            .collect();
        let mut favourites = |count: usize, of: usize| -> Vec<usize> {
            (0..count)
                .map(|n| {
                    (random.random_range(0..of / GENRES) * GENRES + genres[n % genres.len()])
                        .min(of - 1)
                })
                .collect()
        };
        let makers = favourites(FAVOURITE_MAKERS, makers);
        let performers = favourites(FAVOURITE_PERFORMERS, performers);
        liked.clear();
        for at in 0..(likes / users) as u32 {
            let mut one_of = |chosen: &[usize]| chosen[random.random_range(0..chosen.len())];
            let (maker, performer, genre) = (one_of(&makers), one_of(&performers), one_of(&genres));
            let group = match random.random_range(0..10) {
                0..4 => &by_maker[maker],
                4..7 => &by_performer[performer],
                7..9 => &by_genre[genre],
                _ => &all,
            };
            if let Some(item) = group.draw(&mut random)
                && liked.insert(item)
            {
                of_users.push(Interaction { user, item, at });
            }
        }
    }
    of_users.sort_by_key(|like| (like.at, like.user, like.item));
    Ok(Dataset {
        catalogue: Catalogue::new(rows)?,
        users,
        likes: of_users,
        skips: Vec::new(),
    })
}
