//! Selects the videos of a list among the nearest ones: different from each other, and no more of
//! one maker or performer than the rules allow.

use super::query::Query;
use crate::config::Rules;
use crate::serve::snapshot::Snapshot;
use twotower_core::index::{Condition, Filter};
use twotower_core::recommend::{Cap, CapCounts, Diversity, Scored, diversify};

/// Number of candidates for each place of a diverse list, and the bounds of their total.
const CANDIDATES_PER_PLACE: usize = 8;
const CANDIDATES: std::ops::RangeInclusive<usize> = 100..=1000;

/// At most this many further searches if all candidates are of makers or performers that have
/// reached their cap. Each search leaves out those that have, so that one is enough unless several
/// of them have hundreds of the nearest videos each.
const MAX_FURTHER_SEARCHES: usize = 4;

/// The videos from which a list is chosen.
pub(super) struct Pool<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Videos are ordered by similarity to this vector, or without one by number of likes.
    pub(super) vector: Option<&'a [f32]>,
    /// Positions of videos that must not be chosen, in no order.
    pub(super) exclude: Vec<&'a [u32]>,
    /// Conditions that videos must meet.
    pub(super) filter: &'a Filter,
}

/// The videos of a list.
pub(super) struct Spread {
    /// In the order to show them.
    pub(super) chosen: Vec<Scored>,
    /// Whether videos were left out because of their score.
    pub(super) below_min_score: bool,
}

/// The best of a pool.
struct Retrieved {
    /// Best first.
    good: Vec<Scored>,
    below_min_score: bool,
    /// Whether another search may find more.
    more: bool,
}

impl Pool<'_> {
    /// As many videos as `query` asks for, or fewer if the pool has fewer. A cap of `rules` is
    /// exceeded only if there are no other videos.
    pub(super) fn spread(&self, query: &Query, rules: &Rules) -> Spread {
        let videos = &self.snapshot.videos;
        let makers = |item: u32| videos.makers(item);
        let performers = |item: u32| videos.performers(item);
        let caps = caps(rules, &makers, &performers);
        // Without a model there are no vectors from which to tell how different videos are.
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
        } = self.best(wanted, &self.exclude, self.filter, query);
        let mut chosen = choose(&candidates);
        for _ in 0..MAX_FURTHER_SEARCHES {
            if caps.is_empty() || !more {
                break;
            }
            let (within, counts) = within_caps(&caps, &chosen);
            if within == chosen.len() {
                break;
            }
            let mut filter = self.filter.clone();
            let full = counts.full_groups().collect();
            filter.conditions.push(Condition::NoneOf(full));
            // Every other candidate exceeds a cap beside these, so the filter leaves it out.
            let taken: Vec<u32> = chosen[..within].iter().map(|it| it.item).collect();
            let exclude = [&self.exclude[..], &[taken.as_slice()]].concat();
            let wanted = candidates_for(query.limit - within);
            let others = self.best(wanted, &exclude, &filter, query);
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

    /// The best videos that pass `filter`, without those to `exclude`: at most `wanted`, and fewer
    /// if `query` does not admit the scores of some.
    fn best(&self, wanted: usize, exclude: &[&[u32]], filter: &Filter, query: &Query) -> Retrieved {
        let mut good = match self.vector {
            Some(vector) => self.snapshot.search(vector, wanted, exclude, filter),
            None => self.snapshot.most_liked(wanted, exclude, filter),
        };
        let found = good.len();
        good.retain(|scored| query.admits_score(scored.score));
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

/// Groups of a video, by its position.
type Groups<'a> = dyn Fn(u32) -> &'a [u32] + Sync + 'a;

/// The caps of `rules`, by groups of the catalogue. A maker and a performer never have the same
/// group number.
pub(super) fn caps<'a>(
    rules: &Rules,
    makers: &'a Groups<'a>,
    performers: &'a Groups<'a>,
) -> Vec<Cap<'a>> {
    let by_maker = (rules.max_per_maker, makers);
    let by_performer = (rules.max_per_performer, performers);
    [by_maker, by_performer]
        .into_iter()
        .filter(|&(most, _)| most > 0)
        .map(|(most, groups)| Cap { most, groups })
        .collect()
}

/// The number of videos in `chosen` before the first that exceeds a cap, and the counts of these.
fn within_caps<'a>(caps: &'a [Cap<'a>], chosen: &[Scored]) -> (usize, CapCounts<'a>) {
    let mut counts = CapCounts::new(caps);
    for (place, scored) in chosen.iter().enumerate() {
        if !counts.has_room(scored.item) {
            return (place, counts);
        }
        counts.add(scored.item);
    }
    (chosen.len(), counts)
}
