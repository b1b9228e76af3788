//! Names the likes from which each recommendation results.

use super::rank::{Origin, Person, Ranking, Why};
use crate::serve::snapshot::Snapshot;
use twotower_core::recommend::Attribution;

/// At most this many of the latest likes are left out, one at a time, to measure their
/// contribution.
const MAX_LIKES_LEFT_OUT: usize = 100;

/// At most this many likes are named for a recommendation.
const MAX_LIKES_NAMED: usize = 3;

/// Adds the reason to each pick that was chosen by score. Names only likes without which the score
/// would be lower. A video to which no single like contributes gets no reason.
pub(super) fn explain(ranking: &mut Ranking, snapshot: &Snapshot, person: &Person) {
    let attribution = match (&snapshot.model, ranking.origin) {
        (Some(model), Origin::TwoTower) => {
            let rows = |items: &[u32]| -> Vec<&[f32]> {
                items
                    .iter()
                    .filter_map(|&item| snapshot.vector(item))
                    .collect()
            };
            let (likes, skips) = (rows(&person.likes), rows(person.latest_skips()));
            Some(Attribution::new(
                &model.user_tower,
                &likes,
                &skips,
                MAX_LIKES_LEFT_OUT,
            ))
        }
        _ => None,
    };
    for pick in &mut ranking.picks {
        if !matches!(pick.why, Why::Score) {
            continue;
        }
        let Some(attribution) = &attribution else {
            pick.why = Why::Popular;
            continue;
        };
        let vector = snapshot.vector(pick.scored.item).unwrap_or_default();
        let first = person.likes.len().saturating_sub(MAX_LIKES_LEFT_OUT);
        let mut likes: Vec<(u32, f32)> = person.likes[first..]
            .iter()
            .copied()
            .zip(attribution.shares(vector))
            .filter(|&(_, contribution)| contribution > 0.0)
            .collect();
        likes.sort_by(|a, b| b.1.total_cmp(&a.1));
        likes.truncate(MAX_LIKES_NAMED);
        if !likes.is_empty() {
            pick.why = Why::Likes(likes);
        }
    }
}
