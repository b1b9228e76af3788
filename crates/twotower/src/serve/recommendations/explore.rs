//! Places for new videos, drawn at random so that training data is not limited to what earlier
//! models recommend.

use super::rank::{Eligible, ListRequest, Origin, Pick, Ranking, Why};
use super::spread;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use twotower_core::kernel;
use twotower_core::recommend::{Cap, CapCounts, Scored};

/// Gives the last places of a list, before those of previously skipped videos, to new videos:
/// `exploration_share` of `limit` on average. Each new video has the same probability of being
/// drawn. This probability is its propensity, whose inverse is the weight in inverse propensity
/// scoring (Horvitz and Thompson 1952).
///
/// Candidates are the new videos that the request admits, also by their score, and that exceed no
/// cap beside the videos that keep their places even when the fewest are drawn. A candidate that
/// exceeds a cap only beside other drawn videos gives way to the next one, so propensities are
/// slightly inaccurate if makers have several new videos.
pub(super) fn explore(
    ranking: &mut Ranking,
    request: &ListRequest<'_>,
    eligible: &Eligible<'_>,
    skips: &[u32],
) {
    let ListRequest {
        snapshot,
        query,
        policy,
        ..
    } = *request;
    let expected = policy.exploration_share * query.limit as f32;
    if expected <= 0.0 || ranking.origin != Origin::TwoTower {
        return;
    }
    let mut random = match query.seed {
        Some(seed) => Pcg64Mcg::seed_from_u64(seed),
        None => Pcg64Mcg::seed_from_u64(random_seed()),
    };
    // Rounded up or down at random, so that small shares are met on average.
    let places = (expected + random.random::<f32>()).floor() as usize;
    let places = places.min(query.limit);
    let is_skipped = |pick: &Pick| matches!(pick.why, Why::SkippedBefore);
    let chosen = ranking.picks.iter().position(is_skipped);
    let skipped = ranking
        .picks
        .split_off(chosen.unwrap_or(ranking.picks.len()));
    // The number that keep their places whichever way `places` was rounded. If the candidates
    // depended on the rounding, their propensities would be wrong.
    let head = ranking
        .picks
        .len()
        .min(query.limit - expected.floor() as usize);
    let makers = |item: u32| snapshot.videos.makers(item);
    let performers = |item: u32| snapshot.videos.performers(item);
    let caps = spread::caps(&policy.rules, &makers, &performers);
    let mut members = Members::new(&caps, &ranking.picks[..head]);

    let score = |item: u32| {
        let vector = snapshot.vector(item).unwrap_or_default();
        ranking
            .vector
            .as_ref()
            .map_or(0.0, |user| kernel::dot(user, vector))
    };
    let good_enough = |item: u32| query.admits_score(score(item));
    let fresh = snapshot.videos.fresh();
    let admits = eligible.admits(fresh.len(), skips);
    let fresh: Vec<u32> = fresh
        .iter()
        .copied()
        .filter(|&item| admits(item) && good_enough(item) && members.has_room(item))
        .collect();
    let propensity = (expected / fresh.len().max(1) as f32).min(1.0);
    let tried = if caps.is_empty() {
        places.min(fresh.len())
    } else {
        fresh.len()
    };
    let drawn: Vec<Pick> = index::sample(&mut random, fresh.len(), tried)
        .iter()
        .map(|place| fresh[place])
        .filter(|&item| members.join(item))
        .take(places)
        .map(|item| Pick {
            scored: Scored {
                item,
                score: score(item),
            },
            why: Why::New { propensity },
        })
        .collect();

    let is_drawn = |pick: &Pick| drawn.iter().any(|it| it.scored.item == pick.scored.item);
    ranking.picks.retain(|pick| !is_drawn(pick));
    // If a drawn video was in the head, the videos that move up may exceed a cap beside it. They
    // come last then.
    let mut members = Members::new(&caps, &drawn);
    let (fitting, over): (Vec<Pick>, Vec<Pick>) = std::mem::take(&mut ranking.picks)
        .into_iter()
        .partition(|pick| members.join(pick.scored.item));
    ranking.picks.extend(fitting);
    ranking.picks.extend(over);
    ranking.picks.truncate(query.limit - drawn.len());
    ranking.picks.extend(drawn);
    ranking.picks.extend(skipped);
    ranking.picks.truncate(query.limit);
}

/// The videos of a capped list, and those that were in it from the beginning.
struct Members<'a> {
    counts: CapCounts<'a>,
    first: Vec<u32>,
}

impl<'a> Members<'a> {
    fn new(caps: &'a [Cap<'a>], picks: &[Pick]) -> Self {
        let mut members = Self {
            counts: CapCounts::new(caps),
            first: picks.iter().map(|pick| pick.scored.item).collect(),
        };
        for &item in &members.first {
            members.counts.add(item);
        }
        members
    }

    /// Whether the list exceeds no cap of the video's groups once the video is at its end.
    fn has_room(&self, item: u32) -> bool {
        // A video that is already in the list only moves.
        if self.first.contains(&item) {
            self.counts.is_within(item)
        } else {
            self.counts.has_room(item)
        }
    }

    /// Puts the video at the end if there is room. Returns whether there was.
    fn join(&mut self, item: u32) -> bool {
        let fits = self.has_room(item);
        if fits && !self.first.contains(&item) {
            self.counts.add(item);
        }
        fits
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the same videos are drawn each time, which is no reason to refuse an
    // answer.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
