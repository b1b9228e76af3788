use super::cluster;
use super::codes::{Codes, QueryCodes};
use crate::embedding::Embeddings;
use crate::kernel;
use rayon::prelude::*;
use std::ops::Range;

/// Groups that are put in order before it is known how many it takes; most searches need no more.
const FIRST: usize = 64;

/// Vectors of a list, about. With few of them a list's mean and spread say much about each; with fewer still, the lists would take longer
/// to look at than what they spare.
const LIST_LEN: usize = 24;

/// Inverted lists: vectors grouped by the nearest of some centroids (Jégou et al. 2011 without the product codes), so that a search need
/// only look into the groups that can hold something good.
///
/// There are two levels, groups and the lists that each of them is divided into: a group says where to look, a list whether that pays.
#[derive(Debug)]
pub(super) struct Lists {
    /// Ranges of lists.
    groups: Level,
    /// Ranges of slots.
    lists: Level,
}

/// Sets of neighbouring vectors, of which means and spread are known.
#[derive(Debug)]
struct Level {
    /// Where each set begins on the level below, `[sets + 1]`.
    offsets: Vec<u32>,
    /// The mean of each set, not of unit norm.
    means: Codes,
    /// Standard deviation of the inner product of a set's vectors with a direction of unit norm, over all directions.
    deviations: Vec<f32>,
}

/// Where each vector stands once the lists are made.
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

    /// Calls `visit` with the slots of one list after the other, as long as the best score to be expected of a list reaches the k-th best
    /// score that `visit` returns. Groups with the best prospects come first.
    pub(super) fn probe(
        &self,
        query: &[f32],
        effort: Effort,
        space: &mut ProbeSpace,
        mut visit: impl FnMut(Range<usize>) -> f32,
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
        let best_first =
            |a: &Prospect, b: &Prospect| b.score.total_cmp(&a.score).then(a.set.cmp(&b.set));
        let reach = effort.margin * kernel::dot(query, query).sqrt();
        self.groups
            .prospects(0..self.groups.len(), groups, reach, products, prospects);
        let first = FIRST.min(prospects.len());
        if first < prospects.len() {
            prospects.select_nth_unstable_by(first, best_first);
        }
        let (mut kth, mut seen) = (f32::NEG_INFINITY, 0);
        let mut look_into = |prospects: &mut [Prospect]| {
            prospects.sort_unstable_by(best_first);
            for group in prospects {
                if group.score < kth && seen >= effort.least {
                    break;
                }
                let group = self.groups.range(group.set);
                self.lists
                    .prospects(group, lists, reach, products, list_prospects);
                for list in &*list_prospects {
                    if list.score >= kth || seen < effort.least {
                        let slots = self.lists.range(list.set);
                        seen += slots.len();
                        kth = visit(slots);
                    }
                }
            }
            (kth, seen)
        };
        let (first, rest) = prospects.split_at_mut(first);
        let (kth, seen) = look_into(first);
        if seen < effort.least {
            look_into(rest);
        } else {
            // Most cannot be among the rest any more: no need to put them in order.
            let mut good = 0;
            for n in 0..rest.len() {
                if rest[n].score >= kth {
                    rest.swap(good, n);
                    good += 1;
                }
            }
            look_into(&mut rest[..good]);
        }
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.groups.bytes() + self.lists.bytes()
    }
}

/// Divides the vectors at `positions` into lists of about [`LIST_LEN`], each of vectors that are near each other.
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
                // The squared norms of unit vectors around their mean come to 1 - |mean|².
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

    /// What belongs to `set` on the level below.
    fn range(&self, set: u32) -> Range<usize> {
        let set = set as usize;
        self.offsets[set] as usize..self.offsets[set + 1] as usize
    }

    /// The best score to be expected of each of `sets`: so many deviations above its mean's as `reach` says.
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
        prospects.extend(products.iter().zip(deviations).zip(sets).map(
            |((&product, deviation), set)| Prospect {
                score: query.score(product) as f32 + reach * deviation,
                set: set as u32,
            },
        ));
    }

    fn bytes(&self) -> usize {
        size_of_val(self.offsets.as_slice())
            + self.means.bytes()
            + size_of_val(self.deviations.as_slice())
    }
}

/// How long a probe goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// How many deviations above its mean's the best score of a list is expected.
    pub(super) margin: f32,
    /// Slots to look at whatever is expected of their lists.
    pub(super) least: usize,
}

/// What a probe needs room for.
#[derive(Debug, Default)]
pub(super) struct ProbeSpace {
    groups: QueryCodes,
    lists: QueryCodes,
    products: Vec<i32>,
    prospects: Vec<Prospect>,
    list_prospects: Vec<Prospect>,
}

/// The best score to be expected of a group or a list.
#[derive(Debug, Clone, Copy)]
struct Prospect {
    score: f32,
    set: u32,
}
