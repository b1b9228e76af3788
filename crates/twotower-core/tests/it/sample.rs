use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use uuid::Uuid;

/// Videos of two tastes, even and odd positions, some liked more than others; each user has one
/// taste, and some users come late. The last video is never liked.
pub(crate) fn dataset(seed: u64) -> Dataset {
    const VIDEOS: u32 = 60;
    const USERS: u32 = 40;
    let mut generator = Pcg64::seed_from_u64(seed);
    let videos = (0..VIDEOS).map(|item| Video {
        id: Uuid::from_u128(u128::from(item) + 1),
        title: format!("video {item}"),
        ..Video::default()
    });
    let (mut likes, mut skips) = (Vec::new(), Vec::new());
    for at in 0..1500u32 {
        let user = generator.random_range(0..USERS.min(5 + at / 30));
        let pick = generator.random_range(0..VIDEOS / 2 - 1) * generator.random_range(1..=2) / 2;
        let item = 2 * pick + user % 2;
        let rows = if generator.random_bool(0.2) {
            &mut skips
        } else {
            &mut likes
        };
        if !rows
            .iter()
            .any(|row: &Interaction| (row.user, row.item) == (user, item))
        {
            rows.push(Interaction { user, item, at });
        }
    }
    Dataset {
        catalogue: Catalogue::new(videos).unwrap(),
        users: USERS as usize,
        likes,
        skips,
    }
}
