use super::cluster;
use super::codes::{Codes, QueryCodes};
use crate::embedding::Embeddings;
use crate::kernel;
use std::ops::Range;

/// Lists that are put in order before it is known how many it takes; most searches need no more.
const FIRST: usize = 64;

/// Inverted lists: vectors grouped by the nearest of some centroids (Jégou et al. 2011 without the product codes), so that a search need
/// only look into the groups that can hold something good.
#[derive(Debug)]
pub(super) struct Lists {
    /// Slots where each list begins, `[lists + 1]`.
    offsets: Vec<u32>,
    /// The mean of each list, not of unit norm.
    means: Codes,
    /// Standard deviation of the inner product of a list's vectors with a direction of unit norm, over all directions.
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
    /// Groups `vectors` around `lists` centroids.
    pub(super) fn new(vectors: &Embeddings, lists: usize, seed: u64) -> (Self, Order) {
        let dim = vectors.dim();
        let centroids = cluster::spherical_k_means(vectors, lists, seed);
        let nearest = cluster::nearest(vectors.as_slice(), &centroids);
        let mut offsets = vec![0u32; lists + 1];
        for nearest in &nearest {
            offsets[nearest.centroid as usize + 1] += 1;
        }
        for list in 0..lists {
            offsets[list + 1] += offsets[list];
        }
        let mut next = offsets.clone();
        let mut order = Order {
            position_of: vec![0; vectors.len()],
            slot_of: vec![0; vectors.len()],
        };
        let mut means = vec![0.0; lists * dim];
        for (position, nearest) in nearest.iter().enumerate() {
            let list = nearest.centroid as usize;
            let slot = next[list];
            next[list] += 1;
            order.position_of[slot as usize] = position as u32;
            order.slot_of[position] = slot;
            kernel::axpy(
                1.0,
                vectors.row(position),
                &mut means[list * dim..(list + 1) * dim],
            );
        }
        let mut deviations = vec![0.0; lists];
        for (list, mean) in means.chunks_exact_mut(dim).enumerate() {
            let count = (offsets[list + 1] - offsets[list]).max(1) as f32;
            for x in mean.iter_mut() {
                *x /= count;
            }
            // The squared norms of unit vectors around their mean come to 1 - |mean|².
            let spread = (1.0 - kernel::dot(mean, mean)).max(0.0);
            deviations[list] = (spread / dim as f32).sqrt();
        }
        let means = Codes::new(lists, dim, |n| &means[n * dim..(n + 1) * dim]);
        (
            Self {
                offsets,
                means,
                deviations,
            },
            order,
        )
    }

    /// Calls `visit` with the slots of one list after the other, those with the best prospects first, as long as the best score to be
    /// expected of a list reaches the k-th best score that `visit` returns.
    pub(super) fn probe(
        &self,
        query: &[f32],
        effort: Effort,
        space: &mut ProbeSpace,
        mut visit: impl FnMut(Range<usize>) -> f32,
    ) {
        let ProbeSpace {
            query: codes,
            products,
            prospects,
        } = space;
        self.means.prepare(query, codes);
        products.resize(self.deviations.len(), 0);
        kernel::code_products(self.means.as_slice(), codes.as_slice(), products);
        let norm = effort.margin * kernel::dot(query, query).sqrt();
        prospects.clear();
        prospects.extend(products.iter().zip(&self.deviations).zip(0u32..).map(
            |((&product, deviation), list)| Prospect {
                score: codes.score(product) as f32 + norm * deviation,
                list,
            },
        ));
        let best_first =
            |a: &Prospect, b: &Prospect| b.score.total_cmp(&a.score).then(a.list.cmp(&b.list));
        let (mut kth, mut seen) = (f32::NEG_INFINITY, 0);
        let mut look_into = |prospects: &mut [Prospect]| {
            prospects.sort_unstable_by(best_first);
            for prospect in prospects {
                if prospect.score < kth && seen >= effort.least {
                    return false;
                }
                let list = prospect.list as usize;
                let slots = self.offsets[list] as usize..self.offsets[list + 1] as usize;
                seen += slots.len();
                kth = visit(slots);
            }
            true
        };
        let first = FIRST.min(prospects.len());
        if first < prospects.len() {
            prospects.select_nth_unstable_by(first, best_first);
        }
        let (first, rest) = prospects.split_at_mut(first);
        if look_into(first) {
            look_into(rest);
        }
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
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
    query: QueryCodes,
    products: Vec<i32>,
    prospects: Vec<Prospect>,
}

/// The best score to be expected of a list.
#[derive(Debug, Clone, Copy)]
struct Prospect {
    score: f32,
    list: u32,
}
