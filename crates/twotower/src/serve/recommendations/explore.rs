//! Places for new videos, drawn at random so that what is learned from them is not only about what was liked before.

use super::policy::Policy;
use super::query::Query;
use super::rank::{Eligible, Origin, Pick, Ranking, Why};
use crate::serve::snapshot::Snapshot;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use twotower_core::kernel;
use twotower_core::recommend::Scored;

/// Gives the last places of a list to new videos: `exploration_share` of `limit` on average, each new video being as likely as the
/// next. Its propensity is that likelihood, which weighing by its inverse needs (Horvitz and Thompson 1952).
pub(super) fn explore(
    ranking: &mut Ranking,
    snapshot: &Snapshot,
    eligible: &Eligible<'_>,
    skips: &[u32],
    query: &Query,
    policy: &Policy,
) {
    let expected = policy.exploration_share * query.limit as f32;
    if expected <= 0.0 || ranking.origin != Origin::TwoTower {
        return;
    }
    let admits = eligible.admits();
    let fresh: Vec<u32> = snapshot
        .videos
        .fresh()
        .iter()
        .copied()
        .filter(|item| admits(*item) && !skips.contains(item))
        .collect();
    let mut random = match query.seed {
        Some(seed) => Pcg64Mcg::seed_from_u64(seed),
        None => Pcg64Mcg::seed_from_u64(random_seed()),
    };
    // Rounded up or down at random, so that small shares are kept on average.
    let places = (expected + random.random::<f32>()).floor() as usize;
    let places = places.min(fresh.len()).min(query.limit);
    let propensity = (expected / fresh.len().max(1) as f32).min(1.0);
    let drawn: Vec<u32> = index::sample(&mut random, fresh.len(), places)
        .iter()
        .map(|place| fresh[place])
        .collect();
    ranking
        .picks
        .retain(|pick| !drawn.contains(&pick.scored.item));
    ranking.picks.truncate(query.limit - drawn.len());
    let score = |item: u32| {
        let vector = snapshot.vector(item).unwrap_or_default();
        ranking
            .vector
            .as_ref()
            .map_or(0.0, |user| kernel::dot(user, vector))
    };
    let picks: Vec<Pick> = drawn
        .into_iter()
        .map(|item| Pick {
            scored: Scored {
                item,
                score: score(item),
            },
            why: Why::New { propensity },
        })
        .collect();
    ranking.picks.extend(picks);
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the same videos would be drawn each time, which is no reason to refuse an answer.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
