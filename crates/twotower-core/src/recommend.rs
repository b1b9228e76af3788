//! Score, filter, select: the same steps for offline evaluation and for serving.

mod attribution;

mod cap;

mod diversify;

pub use attribution::Attribution;
pub use cap::{Cap, CapCounts};
pub use diversify::{Diversity, diversify};

use crate::interaction::History;
use std::cmp::Ordering;

/// Ranks the catalogue for a history. One contract suite tests every implementation.
pub trait Recommender: Sync {
    /// Name in tables, lower case.
    fn name(&self) -> &str;

    /// Number V of videos that it ranks.
    fn items(&self) -> usize;

    /// Whether it can rank for this history; popularity serves all others.
    fn serves(&self, history: History<'_>) -> bool {
        !history.likes.is_empty()
    }

    /// Writes a finite score for every video into `scores` `[V]`; higher is better. Deterministic.
    fn score(&self, history: History<'_>, scores: &mut [f32]);
}

/// A video and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Position in the catalogue.
    pub item: u32,
    /// Higher is better.
    pub score: f32,
}

impl Scored {
    /// Best first: score descending, ties to the smaller position.
    pub fn best_first(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.item.cmp(&other.item))
    }
}

/// How many videos a caller wants, and which not.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// At most this many videos.
    pub limit: usize,
    /// Positions to leave out.
    pub exclude: &'a [&'a [u32]],
}

/// Result of [`recommend`].
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// At most `limit` videos, best first.
    pub kept: Vec<Scored>,
    /// How many videos of the catalogue the filter removed.
    pub removed: usize,
}

/// Ranks the catalogue for `history` and keeps the best that the request does not exclude.
pub fn recommend(
    recommender: &dyn Recommender,
    history: History<'_>,
    request: &Request<'_>,
) -> Selection {
    let mut scores = vec![0.0; recommender.items()];
    recommender.score(history, &mut scores);
    let mut excluded = vec![false; scores.len()];
    for &item in request.exclude.iter().copied().flatten() {
        excluded[item as usize] = true;
    }
    let removed = excluded.iter().filter(|&&out| out).count();
    Selection {
        kept: top_k(&scores, &excluded, request.limit),
        removed,
    }
}

/// The `k` best positions by `scores` `[V]` that are not `excluded` `[V]`, best first; ties to the
/// smaller position. O(V + k log k) expected.
pub fn top_k(scores: &[f32], excluded: &[bool], k: usize) -> Vec<Scored> {
    let mut best: Vec<Scored> = Vec::with_capacity(2 * k + 1);
    let mut threshold = f32::NEG_INFINITY;
    for (item, (&score, &out)) in scores.iter().zip(excluded).enumerate() {
        if out || score <= threshold && best.len() >= k {
            continue;
        }
        best.push(Scored {
            item: item as u32,
            score,
        });
        if best.len() > 2 * k {
            best.select_nth_unstable_by(k.saturating_sub(1), Scored::best_first);
            best.truncate(k);
            threshold = best.last().map_or(f32::INFINITY, |worst| worst.score);
        }
    }
    best.sort_unstable_by(Scored::best_first);
    best.truncate(k);
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn top_k_is_the_head_of_a_full_sort(
            rows in prop::collection::vec((-3i8..3, any::<bool>()), 0..200), k in 0usize..20,
        ) {
            let scores: Vec<f32> = rows.iter().map(|row| f32::from(row.0)).collect();
            let excluded: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let mut all: Vec<Scored> = (0..scores.len())
                .filter(|&item| !excluded[item])
                .map(|item| Scored { item: item as u32, score: scores[item] })
                .collect();
            all.sort_by(Scored::best_first);
            all.truncate(k);
            prop_assert_eq!(top_k(&scores, &excluded, k), all);
        }
    }
}
