use super::allowed::Allowed;
use super::cluster;
use super::codes::{Codes, QueryCodes};
use crate::embedding::Embeddings;
use crate::kernel;
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
        let ProbeSpace {
            groups,
            lists,
            products,
            prospects,
            list_prospects,
        } = space;
        self.groups.means.prepare(query, groups);
        self.lists.means.prepare(query, lists);
        let reach = effort.margin * kernel::dot(query, query).sqrt();
        self.groups
            .prospects(0..self.groups.len(), groups, reach, products, prospects);
        let (mut kth, mut seen) = (f32::NEG_INFINITY, 0);
        let (mut begin, mut next) = (0, FIRST_GROUPS);
        let too_large = 'whole: loop {
            let end = prospects.len().min(begin + next);
            if end < prospects.len() {
                prospects[begin..].select_nth_unstable(end - begin);
            }
            prospects[begin..end].sort_unstable();
            for place in begin..end {
                let group = self.groups.range(prospects[place].set());
                let slots = self.lists.ranges(group.clone());
                if seen + slots.len() > effort.min_slots {
                    break 'whole place;
                }
                if let Some(next) = prospects[..end].get(place + 1) {
                    announce(self.lists.ranges(self.groups.range(next.set())));
                }
                seen += slots.len();
                kth = visit(slots, group.len());
            }
            if end == prospects.len() {
                return;
            }
            (begin, next) = (end, 2 * next);
        };

        // The rest of the minimum effort is spent in the group that exceeds it, whatever its
        // prospect.
        let first = Prospect::new(f32::INFINITY, prospects[too_large].set());
        prospects.drain(..=too_large);
        self.keep_best(reach, kth, prospects);
        prospects.push(first);
        prospects.sort_unstable();
        for (n, group) in prospects.iter().enumerate() {
            if group.score() < kth {
                return;
            }
            if let Some(next) = prospects.get(n + 1) {
                self.lists.means.prefetch(self.groups.range(next.set()));
            }
            let group = self.groups.range(group.set());
            self.lists.prospects(
                group,
                lists,
                SMALLER_MARGIN * reach,
                products,
                list_prospects,
            );
            for list in &*list_prospects {
                if list.score() >= kth || seen < effort.min_slots {
                    let slots = self.lists.range(list.set());
                    seen += slots.len();
                    kth = visit(slots, 1);
                }
            }
        }
    }

    /// Keeps the groups in `prospects` that reach `kth`; with a smaller margin if there are many.
    fn keep_best(&self, reach: f32, kth: f32, prospects: &mut Vec<Prospect>) {
        prospects.retain(|group| group.score() >= kth);
        if prospects.len() <= FEW_GROUPS {
            return;
        }
        let too_much = (1.0 - SMALLER_MARGIN) * reach;
        for group in &mut *prospects {
            let set = group.set();
            let less = too_much * self.groups.deviations[set as usize];
            *group = Prospect::new(group.score() - less, set);
        }
        prospects.retain(|group| group.score() >= kth);
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

    /// The expected best score of each of `sets`: the score of its mean plus `reach` deviations.
    fn prospects(
        &self,
        sets: Range<usize>,
        query: &QueryCodes,
        reach: f32,
        products: &mut Vec<i32>,
        prospects: &mut Vec<Prospect>,
    ) {
        let stride = self.means.stride();
        products.resize(sets.len(), 0);
        let means = &self.means.as_slice()[sets.start * stride..sets.end * stride];
        kernel::code_products(means, query.as_slice(), products);
        prospects.clear();
        let deviations = &self.deviations[sets.clone()];
        let described = products.iter().zip(deviations).zip(sets);
        prospects.extend(described.map(|((&product, deviation), set)| {
            Prospect::new(query.score(product) as f32 + reach * deviation, set as u32)
        }));
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
    groups: QueryCodes,
    lists: QueryCodes,
    products: Vec<i32>,
    prospects: Vec<Prospect>,
    list_prospects: Vec<Prospect>,
}

/// The expected best score of a group or list and its number, packed into one integer. Smaller is
/// better; equal scores are in the order of sets. Searches sort hundreds of them, which is twice as
/// fast with integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prospect(u64);

impl Prospect {
    fn new(score: f32, set: u32) -> Self {
        let bits = score.to_bits();
        // Positive floats are ordered like their bits, negative ones in reverse.
        let descending = if score.is_sign_negative() {
            bits
        } else {
            !bits & !SIGN
        };
        Self(u64::from(descending) << 32 | u64::from(set))
    }

    fn score(self) -> f32 {
        let descending = (self.0 >> 32) as u32;
        f32::from_bits(if descending & SIGN == 0 {
            !descending & !SIGN
        } else {
            descending
        })
    }

    fn set(self) -> u32 {
        self.0 as u32
    }
}

/// Sign bit of a float.
const SIGN: u32 = 1 << 31;

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
