//! Which of the nearest videos make a list together: unlike each other, and no more of one maker or performer than the rules say.

use super::query::Query;
use crate::config::Rules;
use crate::serve::snapshot::Snapshot;
use std::collections::HashMap;
use twotower_core::index::{Condition, Filter};
use twotower_core::recommend::{Cap, Diversity, Scored, diversify};

/// Candidates for each place of a diverse list, and their bounds.
const CANDIDATES_PER_PLACE: usize = 8;
const CANDIDATES: std::ops::RangeInclusive<usize> = 100..=1000;

/// So many times others are looked for, where the nearest are all of makers or performers who have their share already. Each time those who
/// have it by then are left out, so that once is enough unless several of them have hundreds of the nearest videos each.
const LOOKED_FOR_OTHERS: usize = 4;

/// What a list is chosen from.
pub(super) struct Pool<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Videos are taken in the order of likeness to it, or of their likes without one.
    pub(super) vector: Option<&'a [f32]>,
    /// Positions that are not chosen, in no order.
    pub(super) exclude: Vec<&'a [u32]>,
    /// What videos must meet.
    pub(super) filter: &'a Filter,
}

/// A list.
pub(super) struct Spread {
    /// In the order to show them.
    pub(super) chosen: Vec<Scored>,
    /// Whether videos were left out for their score.
    pub(super) below_min_score: bool,
}

/// The best of a pool.
struct Retrieved {
    /// Best first.
    good: Vec<Scored>,
    below_min_score: bool,
    /// Whether there may be more that are good.
    more: bool,
}

impl Pool<'_> {
    /// As many videos as `query` asks for, if there are so many. A cap of `rules` is exceeded only if there are no others.
    pub(super) fn spread(&self, query: &Query, rules: &Rules) -> Spread {
        let videos = &self.snapshot.videos;
        let makers = |item: u32| videos.makers(item);
        let performers = |item: u32| videos.performers(item);
        let mut caps: Vec<Cap<'_>> = Vec::new();
        if rules.max_per_maker > 0 {
            caps.push(Cap {
                most: rules.max_per_maker,
                groups: &makers,
            });
        }
        if rules.max_per_performer > 0 {
            caps.push(Cap {
                most: rules.max_per_performer,
                groups: &performers,
            });
        }
        // Without a model there are no vectors to tell videos apart by.
        let strength = match self.snapshot.model {
            Some(_) => query.diversity,
            None => 0.0,
        };
        let wanted = if strength == 0.0 && caps.is_empty() {
            query.limit
        } else {
            candidates_for(query.limit)
        };
        let diversity = Diversity {
            strength,
            caps: &caps,
        };
        let choose = |candidates: &[Scored]| {
            diversify(candidates, query.limit, diversity, |item| {
                self.snapshot.vector(item).unwrap_or_default()
            })
        };

        let Retrieved {
            good: mut candidates,
            below_min_score,
            mut more,
        } = self.best(wanted, &self.exclude, self.filter, query.min_score);
        let mut chosen = choose(&candidates);
        for _ in 0..LOOKED_FOR_OTHERS {
            if caps.is_empty() || !more {
                break;
            }
            let (within, full) = within_caps(&caps, &chosen);
            if within == chosen.len() {
                break;
            }
            let mut filter = self.filter.clone();
            filter.conditions.push(Condition::NoneOf(full));
            // All other candidates exceed a cap beside these, so that the filter leaves them out.
            let taken: Vec<u32> = chosen[..within].iter().map(|it| it.item).collect();
            let exclude = [&self.exclude[..], &[taken.as_slice()]].concat();
            let wanted = candidates_for(query.limit - within);
            let others = self.best(wanted, &exclude, &filter, query.min_score);
            more = others.more;
            if others.good.is_empty() {
                break;
            }
            candidates.extend(others.good);
            candidates.sort_unstable_by(Scored::best_first);
            candidates.dedup_by_key(|it| it.item);
            chosen = choose(&candidates);
        }
        Spread {
            chosen,
            below_min_score,
        }
    }

    /// The `wanted` best that `filter` lets through, without those to `exclude`.
    fn best(
        &self,
        wanted: usize,
        exclude: &[&[u32]],
        filter: &Filter,
        min_score: Option<f32>,
    ) -> Retrieved {
        let mut good = match self.vector {
            Some(vector) => self.snapshot.search(vector, wanted, exclude, filter),
            None => self.snapshot.most_liked(wanted, exclude, filter),
        };
        let found = good.len();
        good.retain(|scored| min_score.is_none_or(|least| scored.score >= least));
        let below_min_score = good.len() < found;
        Retrieved {
            good,
            below_min_score,
            more: found == wanted && !below_min_score,
        }
    }
}

fn candidates_for(places: usize) -> usize {
    (places * CANDIDATES_PER_PLACE).clamp(*CANDIDATES.start(), *CANDIDATES.end())
}

/// How many of `chosen` come before the first that exceeds a cap, and which groups they fill. Makers and performers have numbers apart.
fn within_caps(caps: &[Cap<'_>], chosen: &[Scored]) -> (usize, Vec<u32>) {
    let mut members: HashMap<u32, usize> = HashMap::new();
    let mut full = Vec::new();
    for (place, scored) in chosen.iter().enumerate() {
        let count = |group| members.get(&group).copied().unwrap_or(0);
        if groups(caps, scored.item).any(|(group, most)| count(group) >= most) {
            return (place, full);
        }
        for (group, most) in groups(caps, scored.item) {
            let count = members.entry(group).or_default();
            *count += 1;
            if *count == most {
                full.push(group);
            }
        }
    }
    (chosen.len(), full)
}

/// The groups of a video that are capped, each with the most members that a list should have of it.
fn groups(caps: &[Cap<'_>], item: u32) -> impl Iterator<Item = (u32, usize)> {
    caps.iter().flat_map(move |cap| {
        let most = cap.most;
        (cap.groups)(item).iter().map(move |&group| (group, most))
    })
}
