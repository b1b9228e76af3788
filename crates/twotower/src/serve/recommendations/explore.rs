//! Places for new videos, drawn at random so that what is learned from them is not only about what was liked before.

use super::policy::Policy;
use super::query::Query;
use super::rank::{Eligible, Origin, Pick, Ranking, Why};
use crate::config::Rules;
use crate::serve::snapshot::Snapshot;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashMap;
use twotower_core::kernel;
use twotower_core::recommend::Scored;

/// Gives the last places of a list, before those of videos that were skipped before, to new videos: `exploration_share` of `limit` on
/// average, each new video being as likely as the next. Its propensity is that likelihood, which weighing by its inverse needs (Horvitz and
/// Thompson 1952).
///
/// New are those that the request lets through, also by their score, and that exceed no cap beside what stays of the list where as few as may be are
/// drawn. One that exceeds a cap only beside others that were drawn makes way for the next, so that propensities are off by a little where makers
/// have several new videos.
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
    let mut random = match query.seed {
        Some(seed) => Pcg64Mcg::seed_from_u64(seed),
        None => Pcg64Mcg::seed_from_u64(random_seed()),
    };
    // Rounded up or down at random, so that small shares are kept on average.
    let places = (expected + random.random::<f32>()).floor() as usize;
    let places = places.min(query.limit);
    let is_skipped = |pick: &Pick| matches!(pick.why, Why::SkippedBefore);
    let chosen = ranking.picks.iter().position(is_skipped);
    let skipped = ranking
        .picks
        .split_off(chosen.unwrap_or(ranking.picks.len()));
    // As many as stay at the least, whichever way it was rounded: who is among the new ones must not depend on it, or propensities are none.
    let head = ranking
        .picks
        .len()
        .min(query.limit - expected.floor() as usize);
    let mut members = Members::new(snapshot, &policy.rules, &ranking.picks[..head]);

    let score = |item: u32| {
        let vector = snapshot.vector(item).unwrap_or_default();
        ranking
            .vector
            .as_ref()
            .map_or(0.0, |user| kernel::dot(user, vector))
    };
    let good_enough = |item: u32| query.min_score.is_none_or(|least| score(item) >= least);
    let fresh = snapshot.videos.fresh();
    let admits = eligible.admits(fresh.len(), skips);
    let fresh: Vec<u32> = fresh
        .iter()
        .copied()
        .filter(|&item| admits(item) && good_enough(item) && members.has_room(item))
        .collect();
    let propensity = (expected / fresh.len().max(1) as f32).min(1.0);
    let tried = if members.are_capped() {
        fresh.len()
    } else {
        places.min(fresh.len())
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
    // Those that move up for a drawn one of the head may exceed a cap beside it: as ever, they come last then.
    let mut members = Members::new(snapshot, &policy.rules, &drawn);
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

/// How many videos of each maker and performer are in a list that is capped by them.
struct Members<'a> {
    snapshot: &'a Snapshot,
    rules: &'a Rules,
    /// Those in the list from the beginning.
    items: Vec<u32>,
    /// By which cap, and its group.
    counts: HashMap<(bool, u32), usize>,
}

impl<'a> Members<'a> {
    fn new(snapshot: &'a Snapshot, rules: &'a Rules, picks: &[Pick]) -> Self {
        let mut members = Self {
            snapshot,
            rules,
            items: Vec::new(),
            counts: HashMap::new(),
        };
        if members.are_capped() {
            members.items = picks.iter().map(|pick| pick.scored.item).collect();
            for n in 0..members.items.len() {
                members.count(members.items[n]);
            }
        }
        members
    }

    fn are_capped(&self) -> bool {
        self.rules.max_per_maker > 0 || self.rules.max_per_performer > 0
    }

    /// The groups of a video: by which cap, and the most members that it allows.
    fn groups(&self, item: u32) -> impl Iterator<Item = ((bool, u32), usize)> + use<'a> {
        let (videos, rules) = (&self.snapshot.videos, self.rules);
        let by_maker = (false, rules.max_per_maker, videos.makers(item));
        let by_performer = (true, rules.max_per_performer, videos.performers(item));
        [by_maker, by_performer]
            .into_iter()
            .filter(|&(_, most, _)| most > 0)
            .flat_map(|(cap, most, groups)| groups.iter().map(move |&group| ((cap, group), most)))
    }

    /// Whether the list exceeds no cap with this one at its end.
    fn has_room(&self, item: u32) -> bool {
        // Where it is in the list already, it moves.
        let itself = usize::from(self.items.contains(&item));
        self.groups(item)
            .all(|(group, most)| self.counts.get(&group).copied().unwrap_or(0) < most + itself)
    }

    /// Puts it at the end, if there is room.
    fn join(&mut self, item: u32) -> bool {
        let fits = self.has_room(item);
        if fits && !self.items.contains(&item) {
            self.count(item);
        }
        fits
    }

    fn count(&mut self, item: u32) {
        for (group, _) in self.groups(item) {
            *self.counts.entry(group).or_default() += 1;
        }
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the same videos would be drawn each time, which is no reason to refuse an answer.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
