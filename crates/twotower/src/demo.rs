//! Generated data with a known truth.
//!
//! Videos are points in a hidden space, placed there by genre, topics, maker and performers and by something of their own.
//! A user has a few interests in that space; one of them is on top for some weeks, and then another. What is shown to a user
//! mostly fits the interest on top, and is liked with a probability that rises with the fit; the rest is skipped.
//! So the last likes say more than the first, content says something about videos that nobody has seen, and popularity
//! alone says little.

mod words;

mod random;

mod latent;

mod catalogue;

mod taste;

mod oracle;

mod behaviour;

mod write;

#[cfg(test)]
mod calibration;

pub use oracle::Oracle;
pub use write::write;

use behaviour::{Actions, Feed};
use rayon::prelude::*;
use twotower_core::feature::Video;
use twotower_store::InteractionRow;
use uuid::Uuid;

/// How much is generated, and from what seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratorOptions {
    /// Videos.
    pub videos: usize,
    /// Users.
    pub users: usize,
    /// Likes of all users; a few less come out where the catalogue is too small for so many.
    pub likes: usize,
    /// Days from the first possible like to the last.
    pub days: u32,
    /// End of the period, microseconds since 1970 UTC.
    pub end_us: i64,
    /// The same seed gives the same data.
    pub seed: u64,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            videos: 10_000,
            users: 2_000,
            likes: 200_000,
            days: 180,
            // 2026-11-01T00:00:00Z
            end_us: 1_793_491_200_000_000,
            seed: 42,
        }
    }
}

impl GeneratorOptions {
    /// Beginning of the period, microseconds since 1970 UTC.
    pub(crate) fn start_us(&self) -> i64 {
        self.end_us - i64::from(self.days) * 86_400_000_000
    }
}

/// Generated data and the truth behind it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// In ascending order of id.
    pub videos: Vec<Video>,
    /// In ascending order.
    pub users: Vec<Uuid>,
    /// In the order (time, user, video); a pair of user and video occurs once.
    pub likes: Vec<InteractionRow>,
    /// In the order (time, user, video); a pair of user and video occurs once. Some were liked later.
    pub skips: Vec<InteractionRow>,
    /// The truth.
    pub oracle: Oracle,
}

/// Generates data. The number of threads does not change it.
pub fn generate(options: &GeneratorOptions) -> Generated {
    let items = catalogue::items(options);
    let users = if items.is_empty() {
        Vec::new()
    } else {
        taste::users(options, &items)
    };
    let oracle = Oracle::new(&users, &items);
    let feed = Feed::new(options, &items, &oracle);
    let shares = shares(users.iter().map(|user| user.activity), options.likes);
    let actions: Vec<Actions> = users
        .par_iter()
        .zip(shares)
        .enumerate()
        .map(|(number, (user, likes))| feed.visits(user, number, likes))
        .collect();
    let (mut likes, mut skips) = (Vec::new(), Vec::new());
    for user in actions {
        likes.extend(user.likes);
        skips.extend(user.skips);
    }
    for rows in [&mut likes, &mut skips] {
        rows.sort_unstable_by_key(|row| (row.at_us, row.user, row.video));
    }
    Generated {
        users: users.into_iter().map(|user| user.id).collect(),
        videos: items.into_iter().map(|item| item.video).collect(),
        likes,
        skips,
        oracle,
    }
}

/// Cuts `total` into whole shares in proportion to `weights`, without losing any.
fn shares(weights: impl Iterator<Item = f32> + Clone, total: usize) -> Vec<usize> {
    let sum: f64 = weights.clone().map(f64::from).sum();
    let mut given = 0;
    let mut reached = 0.0;
    weights
        .map(|weight| {
            reached += f64::from(weight);
            let until = (total as f64 * reached / sum).round() as usize;
            std::mem::replace(&mut given, until).abs_diff(until)
        })
        .collect()
}
