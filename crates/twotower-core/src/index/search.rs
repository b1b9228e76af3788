use super::allowed::Allowed;
use super::best::Best;
use super::bitset::Bitset;
use super::candidates::Candidates;
use super::codes::QueryCodes;
use super::lists::{Effort, ProbeSpace};
use super::{AttributesError, Filter, Index};
use crate::kernel;
use crate::recommend::Scored;
use std::ops::Range;
use thiserror::Error;

/// Rows of codes that are scored before their scores are looked at.
const BLOCK: usize = 512;

/// Upper bound on the norm of a query, which keeps inner products finite.
const MAX_NORM: f64 = 1e30;

/// The request of a search, besides the query.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search<'a> {
    /// Number of videos.
    pub k: usize,
    /// Positions to leave out, in any order; unknown positions are ignored.
    pub exclude: &'a [&'a [u32]],
    /// Conditions that the videos must meet.
    pub filter: Option<&'a Filter>,
    /// Whether the result must be exact, even with inverted lists.
    pub exact: bool,
}

/// Why a query cannot be answered.
#[derive(Debug, Error, PartialEq)]
pub enum SearchError {
    /// The query has another length than the vectors.
    #[error("the query has {actual} dimensions, expected {expected}")]
    Dimension {
        /// Dimension of the vectors.
        expected: usize,
        /// Length of the query.
        actual: usize,
    },
    /// NaN or infinity.
    #[error("component {component} of the query is not finite")]
    NotFinite {
        /// Position of the first such component.
        component: usize,
    },
    /// Inner products could overflow.
    #[error("the norm of the query is {norm}, expected one up to 1e30")]
    Norm {
        /// Euclidean norm.
        norm: f64,
    },
    /// The filter does not fit the videos' attributes.
    #[error(transparent)]
    Filter(#[from] AttributesError),
}

/// Buffers of searches. A thread keeps one and reuses it, for any index.
#[derive(Debug, Default)]
pub struct Scratch {
    excluded: Bitset,
    marks: Bitset,
    query: QueryCodes,
    products: Vec<i32>,
    slots: Vec<u32>,
    candidates: Candidates,
    best: Best,
    probe: ProbeSpace,
    work: Work,
}

/// Work of the latest search of a [`Scratch`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Videos scored by their codes.
    pub scanned: usize,
    /// Videos scored in 32-bit floats, including those of the delta.
    pub rescored: usize,
    /// Inverted lists searched.
    pub lists: usize,
}

impl Scratch {
    /// Work of the latest search.
    pub fn work(&self) -> Work {
        self.work
    }
}

impl Index {
    /// The `k` videos with the largest inner products with `query` `[d]` that are neither excluded
    /// nor filtered out, best first, ties to the smaller position. There are fewer than `k` only if
    /// no more pass. Scores are the inner products in 32-bit floats.
    ///
    /// The result is exact, except that a search through inverted lists may miss some videos
    /// ([`Index::recall`]). The lists are used if there are any, the request does not ask for an
    /// exact search, and the filter lets at least a tenth of the videos pass.
    ///
    /// # Errors
    /// [`SearchError`]
    pub fn search(
        &self,
        query: &[f32],
        request: &Search<'_>,
        scratch: &mut Scratch,
    ) -> Result<Vec<Scored>, SearchError> {
        self.check(query)?;
        let conditions = match request.filter {
            Some(filter) => self.attributes.prepare(filter)?,
            None => Vec::new(),
        };
        let allowed = Allowed::new(&self.attributes, conditions, &mut scratch.marks);
        scratch.excluded.reserve(self.len());
        for positions in request.exclude {
            scratch.excluded.mark(positions);
        }
        let best = self.best(query, request, &allowed, scratch);
        for positions in request.exclude {
            scratch.excluded.unmark(positions);
        }
        Ok(best)
    }

    /// Mean share of the `k` best videos of each query that a search through the inverted lists
    /// finds; 1 without lists.
    ///
    /// `queries` `[n, d]`, as users' vectors. `NaN` without a query or without a video.
    ///
    /// # Errors
    /// [`SearchError`] of the first query that cannot be answered.
    pub fn recall<'q>(
        &self,
        queries: impl IntoIterator<Item = &'q [f32]>,
        k: usize,
        scratch: &mut Scratch,
    ) -> Result<f64, SearchError> {
        let (mut found, mut wanted) = (0, 0);
        for query in queries {
            let mut search = |exact| {
                let request = Search {
                    k,
                    exact,
                    ..Search::default()
                };
                self.search(query, &request, scratch)
            };
            let exact = search(true)?;
            let answer = search(false)?;
            wanted += exact.len();
            found += exact
                .iter()
                .filter(|best| answer.iter().any(|scored| scored.item == best.item))
                .count();
        }
        Ok(found as f64 / wanted as f64)
    }

    fn check(&self, query: &[f32]) -> Result<(), SearchError> {
        if query.len() != self.dim() {
            return Err(SearchError::Dimension {
                expected: self.dim(),
                actual: query.len(),
            });
        }
        if let Some(component) = query.iter().position(|x| !x.is_finite()) {
            return Err(SearchError::NotFinite { component });
        }
        let norm = query
            .iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt();
        if norm > MAX_NORM {
            return Err(SearchError::Norm { norm });
        }
        Ok(())
    }

    /// The best videos: those of the delta by their vectors, those of the base by their codes, and
    /// then the candidates among them by their vectors.
    fn best(
        &self,
        query: &[f32],
        request: &Search<'_>,
        allowed: &Allowed<'_>,
        scratch: &mut Scratch,
    ) -> Vec<Scored> {
        let Scratch {
            excluded,
            query: codes,
            products,
            slots,
            candidates,
            best,
            probe,
            work,
            ..
        } = scratch;
        let base = &*self.base;
        *work = Work::default();
        products.resize(BLOCK, 0);
        base.codes.prepare(query, codes);
        let error = codes.error();
        // At most the number of videos, so that a huge k allocates no huge heap.
        let k = request.k.min(self.len());
        candidates.begin(k, codes, error);
        best.begin(k);
        work.rescored = self.score_changed(query, excluded, allowed, best);

        let admit = |position: u32| {
            let admitted = !excluded.contains(position)
                && !self.delta.supersedes(position)
                && allowed.contains(position);
            admitted.then_some(position)
        };
        match (allowed, &base.lists) {
            (Allowed::Few(positions), _) => {
                let admitted = positions
                    .iter()
                    .filter(|&&position| (position as usize) < base.vectors.len())
                    .filter_map(|&position| admit(position));
                slots.clear();
                slots.extend(admitted.map(|position| base.slot_of(position)));
                work.scanned = slots.len();
                base.scan_slots(slots, codes, products, candidates);
            }
            (_, Some(lists)) if !request.exact => {
                let effort = Effort::new(k, allowed, base.margin);
                let announce = |slots| base.codes.prefetch(slots);
                lists.probe(query, effort, probe, announce, |slots, lists| {
                    work.lists += lists;
                    work.scanned += slots.len();
                    base.scan(slots, codes, products, candidates, admit);
                    candidates
                        .kth()
                        .map_or(f32::NEG_INFINITY, |kth| codes.score(kth) as f32)
                });
            }
            _ => {
                work.scanned = base.vectors.len();
                base.scan(0..base.vectors.len(), codes, products, candidates, admit);
            }
        }
        work.rescored += candidates.rescore((query, codes), error, &base.vectors, best);
        best.take()
    }

    /// Offers the videos of the delta, whose vectors have no codes, to `best`. Returns how many
    /// were scored.
    fn score_changed(
        &self,
        query: &[f32],
        excluded: &Bitset,
        allowed: &Allowed<'_>,
        best: &mut Best,
    ) -> usize {
        let admits_changed =
            |position: u32| !excluded.contains(position) && allowed.contains(position);
        let mut scored = 0;
        let mut score = |position: u32, vector: &[f32]| {
            scored += 1;
            best.offer(Scored {
                item: position,
                score: kernel::dot(query, vector),
            });
        };
        if let Allowed::Few(positions) = allowed {
            for &position in positions {
                if admits_changed(position)
                    && let Some(vector) = self.delta.vector(position)
                {
                    score(position, vector);
                }
            }
        } else {
            for (position, vector) in self.delta.iter() {
                if admits_changed(position) {
                    score(position, vector);
                }
            }
        }
        scored
    }
}

impl super::Base {
    /// Scores the rows of codes in `slots` and offers those that `admit` accepts.
    fn scan(
        &self,
        slots: Range<usize>,
        query: &QueryCodes,
        products: &mut [i32],
        candidates: &mut Candidates,
        admit: impl Fn(u32) -> Option<u32>,
    ) {
        let stride = self.codes.stride();
        let rows = &self.codes.as_slice()[slots.start * stride..slots.end * stride];
        for (block, rows) in rows.chunks(BLOCK * stride).enumerate() {
            let products = &mut products[..rows.len() / stride];
            kernel::code_products(rows, query.as_slice(), products);
            let begin = slots.start + block * BLOCK;
            // The first rows of the next block, which the kernel does not know of.
            self.codes.prefetch(slots.end.min(begin + BLOCK)..slots.end);
            candidates.offer(products, |n| admit(self.position_of((begin + n) as u32)));
        }
    }

    /// The same for `slots` in any places, all of which are wanted.
    fn scan_slots(
        &self,
        slots: &[u32],
        query: &QueryCodes,
        products: &mut [i32],
        candidates: &mut Candidates,
    ) {
        for slots in slots.chunks(BLOCK) {
            let products = &mut products[..slots.len()];
            kernel::code_products_at(self.codes.as_slice(), slots, query.as_slice(), products);
            candidates.offer(products, |n| Some(self.position_of(slots[n])));
        }
    }
}
