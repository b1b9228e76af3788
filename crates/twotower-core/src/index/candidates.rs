use super::best::Best;
use super::codes::QueryCodes;
use crate::embedding::Embeddings;
use crate::kernel;
use crate::recommend::Scored;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Products that are compared with the threshold at a time.
const GROUP: usize = 16;

/// At most this many vectors are prefetched before the first is scored; more would not stay in the
/// first-level cache.
const PREFETCHED: usize = 64;

/// Candidates for the k best by their products of codes, until 32-bit floats decide.
///
/// If E bounds the error of an estimated score, and k videos have an estimate of at least s, then
/// the k best have scores of at least s - E, so that a video estimated below s - 2 E is not among
/// them.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    wanted: usize,
    /// 2 E in units of a product.
    window: i32,
    /// The k largest products.
    largest: BinaryHeap<Reverse<i32>>,
    /// Smaller products are ruled out.
    threshold: i32,
    found: Vec<Candidate>,
    /// Number of candidates after which those below the threshold are dropped.
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    product: i32,
    position: u32,
}

impl Candidates {
    /// Starts a search for the `wanted` best, where a product is off by at most `error`.
    pub(super) fn begin(&mut self, wanted: usize, query: &QueryCodes, error: f64) {
        self.wanted = wanted;
        self.window = query.units(2.0 * error);
        self.largest.clear();
        self.found.clear();
        self.threshold = i32::MIN;
        self.limit = 4 * wanted + 1024;
    }

    /// Offers the `products` of neighbouring rows. `admit` gives the position of a row if it is
    /// wanted, and is called only for rows that reach the threshold.
    pub(super) fn offer(&mut self, products: &[i32], mut admit: impl FnMut(usize) -> Option<u32>) {
        if self.wanted == 0 {
            return;
        }
        for (group, products) in products.chunks(GROUP).enumerate() {
            let threshold = self.threshold;
            // A count without branches is vectorised.
            let reached: u32 = products
                .iter()
                .map(|&product| u32::from(product >= threshold))
                .sum();
            if reached == 0 {
                continue;
            }
            for (n, &product) in products.iter().enumerate() {
                if product >= self.threshold
                    && let Some(position) = admit(group * GROUP + n)
                {
                    self.push(Candidate { product, position });
                }
            }
        }
    }

    /// The k-th best product so far, if there are k.
    pub(super) fn kth(&self) -> Option<i32> {
        (self.largest.len() == self.wanted)
            .then(|| self.largest.peek().map(|least| least.0))
            .flatten()
    }

    /// Scores the remaining candidates in 32-bit floats and offers them to `best`. Returns how many
    /// were scored.
    pub(super) fn rescore(
        &mut self,
        (query, codes): (&[f32], &QueryCodes),
        error: f64,
        vectors: &Embeddings,
        best: &mut Best,
    ) -> usize {
        self.found
            .retain(|candidate| candidate.product >= self.threshold);
        // As a rule little more than the best by estimate are scored.
        for candidate in self
            .found
            .iter()
            .take(PREFETCHED.min(2 * self.wanted + GROUP))
        {
            kernel::prefetch(vectors.row(candidate.position as usize));
        }
        let mut scored = 0;
        let mut score = |candidates: &[Candidate], best: &mut Best| {
            for candidate in candidates {
                if codes.score(candidate.product) + error < f64::from(best.threshold()) {
                    continue;
                }
                scored += 1;
                best.offer(Scored {
                    item: candidate.position,
                    score: kernel::dot(query, vectors.row(candidate.position as usize)),
                });
            }
            best.settle();
        };
        // Score the k best by estimate first: they rule out most of the others.
        if self.found.len() > self.wanted {
            self.found
                .select_nth_unstable_by_key(self.wanted - 1, |candidate| {
                    Reverse(candidate.product)
                });
            let (first, rest) = self.found.split_at(self.wanted);
            score(first, best);
            score(rest, best);
        } else {
            score(&self.found, best);
        }
        scored
    }

    #[inline]
    fn push(&mut self, candidate: Candidate) {
        self.found.push(candidate);
        if self.largest.len() < self.wanted {
            self.largest.push(Reverse(candidate.product));
        } else if let Some(mut least) = self.largest.peek_mut() {
            if candidate.product <= least.0 {
                return;
            }
            *least = Reverse(candidate.product);
        }
        if let Some(kth) = self.kth() {
            self.threshold = kth.saturating_sub(self.window);
        }
        if self.found.len() >= self.limit {
            self.found
                .retain(|candidate| candidate.product >= self.threshold);
            self.limit = 2 * self.found.len() + 4 * self.wanted + 1024;
        }
    }
}
