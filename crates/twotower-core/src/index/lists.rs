use super::allowed::Allowed;
use super::cluster;
use super::codes::{Codes, QueryCodes};
use crate::embedding::Embeddings;
use crate::kernel::{self, CODES_AHEAD};
use rayon::prelude::*;
use std::ops::Range;

/// Groups that are sorted at first, before it is known how many are needed; most searches need no
/// more. Then their number doubles.
const FIRST_GROUPS: usize = 64;

/// Approximate number of vectors of a list. The fewer there are, the more a list's mean and spread
/// say about each of them; with even fewer, looking at the lists would take longer than it saves.
const LIST_LEN: usize = 24;

/// Part of the margin that counts for lists, as few vectors do not lie as far from their mean as
/// the best of many. It also counts for groups if more than [`FEW_GROUPS`] are left after the
/// minimum effort: such vectors form no clusters that the query could tell apart, and the whole
/// margin would look into nearly all groups for nearly the same answer. Fewer groups are searched
/// quickly, and contain what a smaller margin misses.
const SMALLER_MARGIN: f32 = 0.75;
const FEW_GROUPS: usize = 512;

/// At least this many slots are searched, plus this many for each wanted video, whatever the lists
/// promise: the mean of a list says little about the few vectors that lie far from it.
const MIN_SLOTS: usize = 1024;
const MIN_SLOTS_PER_VIDEO: usize = 64;

/// Factor on both with a filter: means say nothing about which of the videos pass it.
const FILTERED_FACTOR: usize = 2;

/// Score of a group that was visited: it reaches no score, not even that of nothing found.
const VISITED: f32 = f32::NAN;

/// Ranges of lists are prefetched this many before they are looked at.
const RUNS_AHEAD: usize = 4;

/// Lists whose scores are compared at a time.
const COMPARED: usize = 16;

/// Inverted lists: vectors grouped by the nearest of some centroids (Jégou et al. 2011 without the
/// product codes), so that a search looks only into groups that can contain good results.
///
/// There are two levels, groups, and the lists that each group is divided into. A group says where
/// to look, a list whether that pays.
#[derive(Debug)]
pub(super) struct Lists {
    /// Ranges of lists.
    groups: Level,
    /// Ranges of slots.
    lists: Level,
}

/// Sets of neighbouring vectors with their means and spreads.
#[derive(Debug)]
struct Level {
    /// Start of each set on the level below, `[sets + 1]`.
    offsets: Vec<u32>,
    /// The mean of each set, not of unit norm.
    means: Codes,
    /// Standard deviation of the inner product of a set's vectors with a direction of unit norm,
    /// over all directions.
    deviations: Vec<f32>,
}

/// Positions and slots of the vectors.
#[derive(Debug)]
pub(super) struct Order {
    /// Position of the vector in a slot.
    pub(super) position_of: Vec<u32>,
    /// Slot of the vector at a position.
    pub(super) slot_of: Vec<u32>,
}

impl Lists {
    /// Groups `vectors` around `groups` centroids, and divides each group into lists.
    pub(super) fn new(vectors: &Embeddings, groups: usize, seed: u64) -> (Self, Order) {
        let centroids = cluster::spherical_k_means(vectors, groups, seed);
        let nearest = cluster::nearest(vectors.as_slice(), &centroids);
        let mut members = vec![Vec::new(); groups];
        for (position, nearest) in (0u32..).zip(&nearest) {
            members[nearest.centroid as usize].push(position);
        }
        let divided: Vec<Vec<Vec<u32>>> = members
            .into_par_iter()
            .enumerate()
            .map(|(group, members)| divide(vectors, members, seed.wrapping_add(1 + group as u64)))
            .collect();

        let (mut groups, mut lists) = (vec![0u32], vec![0u32]);
        let mut position_of = Vec::with_capacity(vectors.len());
        for group in divided {
            for list in group {
                position_of.extend(list);
                lists.push(position_of.len() as u32);
            }
            groups.push(lists.len() as u32 - 1);
        }
        let mut slot_of = vec![0; vectors.len()];
        for (slot, &position) in (0u32..).zip(&position_of) {
            slot_of[position as usize] = slot;
        }
        let slots_of_groups: Vec<u32> = groups.iter().map(|&list| lists[list as usize]).collect();
        let made = Self {
            groups: Level::new(vectors, &position_of, &slots_of_groups, groups),
            lists: Level::new(vectors, &position_of, &lists.clone(), lists),
        };
        let order = Order {
            position_of,
            slot_of,
        };
        (made, order)
    }

    /// Calls `visit` with the slots of one group or list after the other and with their number of
    /// lists, as long as the expected best score of a list reaches the k-th best score, which
    /// `visit` returns. Groups with the best prospects come first, and are visited as a whole until
    /// the minimum effort is made. `announce` is called with the slots that are likely to come
    /// next.
    pub(super) fn probe(
        &self,
        query: &[f32],
        effort: Effort,
        space: &mut ProbeSpace,
        announce: impl Fn(Range<usize>),
        mut visit: impl FnMut(Range<usize>, usize) -> f32,
    ) {
        self.groups.means.prepare(query, &mut space.group_query);
        self.lists.means.prepare(query, &mut space.list_query);
        // In 64-bit floats, since the square of the largest norm allowed exceeds 32-bit ones.
        let square: f64 = query.iter().map(|&x| f64::from(x).powi(2)).sum();
        let reach = effort.margin * square.sqrt() as f32;
        let Some((mut kth, seen, partial)) =
            self.visit_groups(effort, reach, space, &announce, &mut visit)
        else {
            return;
        };
        // The rest of the minimum effort is spent in the group that exceeds it, whatever its
        // prospect.
        let mut missing = effort.min_slots - seen;
        space.prospects.clear();
        self.add_lists(self.groups.range(partial), f32::NEG_INFINITY, reach, space);
        space.prospects.sort_unstable();
        for list in &space.prospects {
            if list.score() >= kth || missing > 0 {
                let slots = self.lists.range(list.set());
                missing = missing.saturating_sub(slots.len());
                kth = visit(slots, 1);
            }
        }

        self.add_promising_lists(kth, reach, space);
        space.prospects.sort_unstable();
        for (n, list) in space.prospects.iter().enumerate() {
            if list.score() < kth {
                return;
            }
            if let Some(next) = space.prospects.get(n + 1) {
                announce(self.lists.range(next.set()));
            }
            kth = visit(self.lists.range(list.set()), 1);
        }
    }

    /// Visits whole groups, best first, as long as they fit into the minimum effort. Returns the
    /// k-th best score, the number of slots visited and the first group that did not fit; `None` if
    /// all groups fitted.
    fn visit_groups(
        &self,
        effort: Effort,
        reach: f32,
        space: &mut ProbeSpace,
        announce: &impl Fn(Range<usize>),
        visit: &mut impl FnMut(Range<usize>, usize) -> f32,
    ) -> Option<(f32, usize, u32)> {
        let ProbeSpace {
            group_query,
            products,
            group_scores,
            prospects,
            ..
        } = space;
        let all = 0..self.groups.len();
        self.groups
            .best_scores(all, group_query, reach, products, group_scores);
        prospects.clear();
        prospects.extend(
            (0..)
                .zip(&*group_scores)
                .map(|(set, &score)| Prospect::new(score, set)),
        );
        let (mut kth, mut seen) = (f32::NEG_INFINITY, 0);
        let (mut begin, mut next) = (0, FIRST_GROUPS);
        loop {
            let end = prospects.len().min(begin + next);
            if end < prospects.len() {
                prospects[begin..].select_nth_unstable(end - begin);
            }
            prospects[begin..end].sort_unstable();
            for place in begin..end {
                let set = prospects[place].set();
                let group = self.groups.range(set);
                let slots = self.lists.ranges(group.clone());
                group_scores[set as usize] = VISITED;
                if seen + slots.len() > effort.min_slots {
                    return Some((kth, seen, set));
                }
                if let Some(next) = prospects[..end].get(place + 1) {
                    announce(self.lists.ranges(self.groups.range(next.set())));
                }
                seen += slots.len();
                kth = visit(slots, group.len());
            }
            if end == prospects.len() {
                return None;
            }
            (begin, next) = (end, 2 * next);
        }
    }

    /// Replaces `space.prospects` by the lists that reach `kth`, of all groups that reach it and
    /// were not visited. The groups are gone through in order of memory, which costs less than
    /// going to the best ones first.
    fn add_promising_lists(&self, kth: f32, reach: f32, space: &mut ProbeSpace) {
        let reaching = space.group_scores.iter().filter(|&&score| score >= kth);
        let too_much = if reaching.count() > FEW_GROUPS {
            (1.0 - SMALLER_MARGIN) * reach
        } else {
            0.0
        };
        let mut runs = std::mem::take(&mut space.runs);
        runs.clear();
        let described = space.group_scores.iter().zip(&self.groups.deviations);
        for (set, (&score, deviation)) in (0..).zip(described) {
            if score - too_much * deviation >= kth {
                let lists = self.groups.range(set);
                match runs.last_mut() {
                    Some(run) if run.end == lists.start => run.end = lists.end,
                    _ => runs.push(lists),
                }
            }
        }
        space.prospects.clear();
        for run in &runs[..runs.len().min(RUNS_AHEAD)] {
            self.lists.prefetch(run.clone());
        }
        for (n, run) in runs.iter().enumerate() {
            if let Some(next) = runs.get(n + RUNS_AHEAD) {
                self.lists.prefetch(next.clone());
            }
            self.add_lists(run.clone(), kth, reach, space);
        }
        space.runs = runs;
    }

    /// Adds those of `lists` that reach `kth` to `space.prospects`.
    fn add_lists(&self, lists: Range<usize>, kth: f32, reach: f32, space: &mut ProbeSpace) {
        let ProbeSpace {
            list_query,
            products,
            list_scores,
            prospects,
            ..
        } = space;
        let begin = lists.start;
        self.lists.best_scores(
            lists,
            list_query,
            SMALLER_MARGIN * reach,
            products,
            list_scores,
        );
        for (chunk, scores) in list_scores.chunks(COMPARED).enumerate() {
            // A count without branches is vectorised; most chunks hold no such list.
            let reaching: u32 = scores.iter().map(|&score| u32::from(score >= kth)).sum();
            if reaching == 0 {
                continue;
            }
            let numbered = (begin + chunk * COMPARED..).zip(scores);
            let reaching = numbered.filter(|&(_, &score)| score >= kth);
            prospects.extend(reaching.map(|(list, &score)| Prospect::new(score, list as u32)));
        }
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.groups.bytes() + self.lists.bytes()
    }
}

/// Divides the vectors at `positions` into lists of about [`LIST_LEN`] neighbouring vectors.
fn divide(vectors: &Embeddings, positions: Vec<u32>, seed: u64) -> Vec<Vec<u32>> {
    let count = positions.len().div_ceil(LIST_LEN);
    if count <= 1 {
        return Vec::from_iter((count == 1).then_some(positions));
    }
    let rows = vectors.select(&positions);
    let centroids = cluster::spherical_k_means(&rows, count, seed);
    let mut lists = vec![Vec::new(); count];
    for (position, nearest) in positions
        .into_iter()
        .zip(cluster::nearest(rows.as_slice(), &centroids))
    {
        lists[nearest.centroid as usize].push(position);
    }
    lists.retain(|list| !list.is_empty());
    lists
}

impl Level {
    /// Describes the sets of vectors whose slots begin at `slots` `[sets + 1]`.
    fn new(vectors: &Embeddings, position_of: &[u32], slots: &[u32], offsets: Vec<u32>) -> Self {
        let dim = vectors.dim();
        let sets = offsets.len() - 1;
        let mut means = vec![0.0; sets * dim];
        let mut deviations = vec![0.0; sets];
        means
            .par_chunks_mut(dim)
            .zip(deviations.par_iter_mut())
            .zip(slots.par_windows(2))
            .for_each(|((mean, deviation), slots)| {
                let members = &position_of[slots[0] as usize..slots[1] as usize];
                let share = 1.0 / members.len().max(1) as f32;
                for &position in members {
                    kernel::axpy(share, vectors.row(position as usize), mean);
                }
                // The squared distances of unit vectors from their mean average to 1 - |mean|².
                let spread = (1.0 - kernel::dot(mean, mean)).max(0.0);
                *deviation = (spread / dim as f32).sqrt();
            });
        Self {
            offsets,
            means: Codes::new(sets, dim, |n| &means[n * dim..(n + 1) * dim]),
            deviations,
        }
    }

    fn len(&self) -> usize {
        self.deviations.len()
    }

    /// The range of `set` on the level below.
    fn range(&self, set: u32) -> Range<usize> {
        let set = set as usize;
        self.ranges(set..set + 1)
    }

    /// The range of consecutive `sets` on the level below.
    fn ranges(&self, sets: Range<usize>) -> Range<usize> {
        self.offsets[sets.start] as usize..self.offsets[sets.end] as usize
    }

    /// Prefetches what [`Level::best_scores`] reads first of `sets`.
    fn prefetch(&self, sets: Range<usize>) {
        kernel::prefetch(&self.deviations[sets.start..sets.end.min(sets.start + CODES_AHEAD)]);
        self.means.prefetch(sets);
    }

    /// The expected best score of each of `sets`: the score of its mean plus `reach` deviations.
    fn best_scores(
        &self,
        sets: Range<usize>,
        query: &QueryCodes,
        reach: f32,
        products: &mut Vec<i32>,
        scores: &mut Vec<f32>,
    ) {
        let stride = self.means.stride();
        products.resize(sets.len(), 0);
        let means = &self.means.as_slice()[sets.start * stride..sets.end * stride];
        kernel::code_products(means, query.as_slice(), products);
        scores.clear();
        let described = products.iter().zip(&self.deviations[sets]);
        scores.extend(
            described
                .map(|(&product, deviation)| query.approximate_score(product) + reach * deviation),
        );
    }

    fn bytes(&self) -> usize {
        size_of_val(self.offsets.as_slice())
            + self.means.bytes()
            + size_of_val(self.deviations.as_slice())
    }
}

/// When a probe ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// The best score of a list is expected this many deviations above that of its mean.
    margin: f32,
    /// Minimum number of slots to search.
    min_slots: usize,
}

impl Effort {
    /// Effort to find the `k` best of the `allowed` videos.
    pub(super) fn new(k: usize, allowed: &Allowed<'_>, margin: f32) -> Self {
        let min_slots = MIN_SLOTS + MIN_SLOTS_PER_VIDEO * k;
        Self {
            margin,
            min_slots: match allowed {
                Allowed::All => min_slots,
                _ => FILTERED_FACTOR * min_slots,
            },
        }
    }
}

/// Buffers of a probe.
#[derive(Debug, Default)]
pub(super) struct ProbeSpace {
    group_query: QueryCodes,
    list_query: QueryCodes,
    products: Vec<i32>,
    /// Expected best score of each group, or [`VISITED`].
    group_scores: Vec<f32>,
    list_scores: Vec<f32>,
    /// Groups at first, then lists.
    prospects: Vec<Prospect>,
    /// Ranges of lists to look at.
    runs: Vec<Range<usize>>,
}

/// The expected best score of a group or list and its number, packed into one integer. Smaller is
/// better; equal scores are in the order of sets. Searches sort hundreds of them, which is twice as
/// fast with integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prospect(u64);

impl Prospect {
    fn new(score: f32, set: u32) -> Self {
        Self(u64::from(flip_positive(score.to_bits())) << 32 | u64::from(set))
    }

    fn score(self) -> f32 {
        f32::from_bits(flip_positive((self.0 >> 32) as u32))
    }

    fn set(self) -> u32 {
        self.0 as u32
    }
}

/// Turns round the bits of positive floats, all but the sign. Negative floats are in descending
/// order of their bits as they are; so is every float then. Twice gives the same bits again.
fn flip_positive(bits: u32) -> u32 {
    let negative = (bits.cast_signed() >> 31).cast_unsigned();
    bits ^ (!negative >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prospects_are_in_order_best_first(mut asked in prop::collection::vec((-3.0f32..3.0, 0u32..9), 0..40)) {
            asked.extend([(0.0, 1), (-0.0, 2), (f32::MIN, 3), (f32::MAX, 4)]);
            let mut prospects: Vec<Prospect> = asked.iter().map(|&(score, set)| Prospect::new(score, set)).collect();
            prospects.sort_unstable();
            asked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let found: Vec<(u32, u32)> = prospects.iter().map(|prospect| (prospect.score().to_bits(), prospect.set())).collect();
            let expected: Vec<(u32, u32)> = asked.iter().map(|&(score, set)| (score.to_bits(), set)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
