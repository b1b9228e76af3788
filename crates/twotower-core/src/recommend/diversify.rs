//! Choosing candidates that make a good list together.

use super::{Cap, CapCounts, Scored};
use crate::kernel;

/// Rules for the composition of a list.
#[derive(Debug, Clone, Copy)]
pub struct Diversity<'a> {
    /// 0 keeps the order of scores; 1 only makes videos unlike each other.
    pub strength: f32,
    /// Upper bounds on the videos of one group in a list, one for each kind of group.
    pub caps: &'a [Cap<'a>],
}

/// Chooses `limit` of `candidates` (best first) by maximal marginal relevance (Carbonell and
/// Goldstein, SIGIR 1998): the next video is always the one with the largest (1 − s) · score − s ·
/// (largest inner product with those chosen), where s is the strength.
///
/// Scores and inner products are both of unit vectors, so that they are on one scale. The limit has
/// precedence over caps: videos over a cap come last, if nothing else is left. `vector` gives the
/// vector of a candidate, `[d]`. O(limit · candidates · d).
///
/// With strength 0 and without caps the result is the first `limit` candidates, unchanged.
pub fn diversify<'v>(
    candidates: &[Scored],
    limit: usize,
    diversity: Diversity<'_>,
    vector: impl Fn(u32) -> &'v [f32],
) -> Vec<Scored> {
    let mut left: Vec<Marginal> = candidates.iter().copied().map(Marginal::new).collect();
    let mut chosen: Vec<Scored> = Vec::with_capacity(limit.min(left.len()));
    let mut counts = CapCounts::new(diversity.caps);
    while chosen.len() < limit {
        let next = left
            .iter()
            .enumerate()
            // The first of equal ones, which is the better.
            .max_by(|(a, x), (b, y)| {
                let relevance = |it: &Marginal| it.relevance(diversity.strength);
                y.over
                    .cmp(&x.over)
                    .then(relevance(x).total_cmp(&relevance(y)))
                    .then(b.cmp(a))
            })
            .map(|(place, _)| place);
        let Some(next) = next else {
            break;
        };
        let best = left.remove(next).scored;
        chosen.push(best);
        if diversity.strength > 0.0 {
            let newest = vector(best.item);
            for other in &mut left {
                let similarity = kernel::dot(newest, vector(other.scored.item));
                other.similarity = other.similarity.max(similarity);
            }
        }
        counts.add(best.item);
        for other in left.iter_mut().filter(|other| !other.over) {
            other.over = !counts.has_room(other.scored.item);
        }
    }
    chosen
}

/// A candidate that has not been chosen.
struct Marginal {
    scored: Scored,
    /// Largest inner product with the chosen videos; -1 if there are none.
    similarity: f32,
    /// Whether choosing it would exceed a cap.
    over: bool,
}

impl Marginal {
    fn new(scored: Scored) -> Self {
        Self {
            scored,
            similarity: -1.0,
            over: false,
        }
    }

    fn relevance(&self, strength: f32) -> f32 {
        (1.0 - strength) * self.scored.score - strength * self.similarity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two near twins and one apart.
    const VECTORS: [[f32; 2]; 3] = [[1.0, 0.0], [0.999, 0.044_7], [0.6, 0.8]];

    fn scored(scores: &[f32]) -> Vec<Scored> {
        (0..)
            .zip(scores)
            .map(|(item, &score)| Scored { item, score })
            .collect()
    }

    fn choose<'a>(strength: f32, caps: &'a [Cap<'a>], limit: usize) -> Vec<u32> {
        let diversity = Diversity { strength, caps };
        let candidates = scored(&[0.9, 0.89, 0.5]);
        diversify(&candidates, limit, diversity, |item| {
            &VECTORS[item as usize]
        })
        .iter()
        .map(|it| it.item)
        .collect()
    }

    #[test]
    fn a_twin_gives_way_to_something_else() {
        assert_eq!(choose(0.0, &[], 3), [0, 1, 2]);
        assert_eq!(choose(0.6, &[], 3), [0, 2, 1]);
        assert_eq!(choose(0.6, &[], 2), [0, 2]);
    }

    #[test]
    fn a_cap_yields_only_when_nothing_else_is_left() {
        let makers: [&[u32]; 3] = [&[7], &[7], &[8]];
        let groups = |item: u32| makers[item as usize];
        let caps = [Cap {
            most: 1,
            groups: &groups,
        }];
        assert_eq!(choose(0.0, &caps, 2), [0, 2]);
        assert_eq!(choose(0.0, &caps, 3), [0, 2, 1]);
    }

    proptest! {
        #[test]
        fn without_diversity_the_order_is_that_of_the_scores(
            mut scores in prop::collection::vec(-1f32..1.0, 0..40), limit in 0usize..50,
        ) {
            scores.sort_by(|a, b| b.total_cmp(a));
            let candidates = scored(&scores);
            let plain = Diversity { strength: 0.0, caps: &[] };
            let chosen = diversify(&candidates, limit, plain, |_| &[]);
            prop_assert_eq!(&chosen[..], &candidates[..limit.min(candidates.len())]);
        }

        #[test]
        fn a_list_is_as_long_as_it_can_be_and_repeats_nothing(
            angles in prop::collection::vec(0f32..6.3, 0..40), strength in 0f32..=1.0, limit in 0usize..50,
        ) {
            let vectors: Vec<[f32; 2]> = angles.iter().map(|angle| [angle.cos(), angle.sin()]).collect();
            let makers: Vec<[u32; 1]> = (0..vectors.len() as u32).map(|item| [item % 3]).collect();
            let groups = |item: u32| makers[item as usize].as_slice();
            let caps = [Cap { most: 2, groups: &groups }];
            let mut candidates = scored(&vectors.iter().map(|v| v[0]).collect::<Vec<_>>());
            candidates.sort_by(Scored::best_first);
            let chosen = diversify(&candidates, limit, Diversity { strength, caps: &caps }, |item| &vectors[item as usize]);
            prop_assert_eq!(chosen.len(), limit.min(candidates.len()));
            let distinct: std::collections::HashSet<u32> = chosen.iter().map(|it| it.item).collect();
            prop_assert_eq!(distinct.len(), chosen.len());
            // Two of each of three makers come first.
            let head = &chosen[..chosen.len().min(6)];
            if candidates.len() >= 6 {
                for maker in 0..3 {
                    prop_assert!(head.iter().filter(|it| it.item % 3 == maker).count() <= 2);
                }
            }
        }
    }
}
