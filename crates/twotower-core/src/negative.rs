//! Candidates of a step: every target of the batch and uniformly drawn negatives, each video once, with its logQ.

use rand::{Rng, RngExt};

/// Not a candidate of this step.
const ABSENT: u32 = u32::MAX;

/// The candidates of one step. The first `len()` columns are scored; [`Candidates::items`] goes on with videos that only
/// stand in a history.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Videos: candidates, then history-only ones. Distinct.
    pub items: Vec<u32>,
    /// `[C]` added to the logit of a candidate that is not the row's target: ln(times drawn) - ln(expected times).
    pub negative_bias: Vec<f32>,
    /// `[C]` added to the logit of the row's own target: -ln(expected times).
    pub positive_bias: Vec<f32>,
}

impl Candidates {
    /// Number of candidates C.
    pub fn len(&self) -> usize {
        self.negative_bias.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.negative_bias.is_empty()
    }
}

/// Draws candidates. Scoring each distinct video once and adding the log of how often it was drawn equals scoring every
/// draw; subtracting the log of how often it was to be expected makes the sampled softmax an estimate of the full one
/// (Bengio & Senécal 2008; Yi et al. 2019, for in-batch negatives; the expectation here is that of the mixture).
#[derive(Debug, Clone)]
pub struct CandidateSampler {
    /// Share of each video among the training likes, `[V]`.
    target_share: Vec<f32>,
    negatives: usize,
    log_q: bool,
    /// Column of each video in this step, `[V]`.
    columns: Vec<u32>,
    counts: Vec<u32>,
}

impl CandidateSampler {
    /// `like_counts` `[V]`: training likes of each video. `negatives` videos are drawn uniformly each step; without
    /// `log_q` no expectation is subtracted (for ablations: it is much worse).
    pub fn new(like_counts: &[u32], negatives: usize, log_q: bool) -> Self {
        let total = like_counts
            .iter()
            .map(|&n| f64::from(n))
            .sum::<f64>()
            .max(1.0);
        Self {
            target_share: like_counts
                .iter()
                .map(|&n| (f64::from(n) / total) as f32)
                .collect(),
            negatives,
            log_q,
            columns: vec![ABSENT; like_counts.len()],
            counts: Vec::new(),
        }
    }

    /// Column of `item` in the candidates drawn last, history-only ones included.
    pub fn column(&self, item: u32) -> Option<usize> {
        let column = self.columns[item as usize];
        (column != ABSENT).then_some(column as usize)
    }

    /// Draws the candidates for a batch with these `targets`; videos of `history` that are no candidates get columns after
    /// them.
    ///
    /// If as many candidates could be drawn as there are videos, every video is one and the softmax is exact.
    pub fn draw(
        &mut self,
        targets: &[u32],
        history: &[u32],
        random: &mut impl Rng,
        into: &mut Candidates,
    ) {
        for &item in &into.items {
            self.columns[item as usize] = ABSENT;
        }
        into.items.clear();
        self.counts.clear();
        let videos = self.columns.len();
        let exact = self.log_q && targets.len() + self.negatives >= videos;
        if exact {
            for item in 0..videos as u32 {
                self.count(item, into);
            }
        } else {
            for &item in targets {
                self.count(item, into);
            }
            for _ in 0..self.negatives {
                self.count(random.random_range(0..videos as u32), into);
            }
        }
        into.negative_bias.clear();
        into.positive_bias.clear();
        let uniform = self.negatives as f32 / videos as f32;
        for (&item, &count) in into.items.iter().zip(&self.counts) {
            let expected = match (exact, self.log_q) {
                (false, true) => targets.len() as f32 * self.target_share[item as usize] + uniform,
                _ => 1.0,
            };
            into.positive_bias.push(-expected.ln());
            into.negative_bias.push((count as f32).ln() - expected.ln());
        }
        for &item in history {
            if self.columns[item as usize] == ABSENT {
                self.columns[item as usize] = into.items.len() as u32;
                into.items.push(item);
            }
        }
    }

    fn count(&mut self, item: u32, into: &mut Candidates) {
        let column = &mut self.columns[item as usize];
        if *column == ABSENT {
            *column = into.items.len() as u32;
            into.items.push(item);
            self.counts.push(1);
        } else {
            self.counts[*column as usize] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn each_video_once_with_the_log_of_its_surplus() {
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut sampler = CandidateSampler::new(&[6, 2, 0, 0, 0, 0, 0, 0], 0, true);
        let mut candidates = Candidates::default();
        sampler.draw(&[0, 0, 1], &[5, 0], &mut random, &mut candidates);
        assert_eq!(candidates.items, [0, 1, 5]);
        assert_eq!(candidates.len(), 2);
        assert_eq!((sampler.column(5), sampler.column(7)), (Some(2), None));
        // Expected 3 · 6/8 times, drawn twice.
        assert!((candidates.negative_bias[0] - (2.0_f32 / 2.25).ln()).abs() < 1e-6);
        assert!((candidates.positive_bias[0] + 2.25_f32.ln()).abs() < 1e-6);
        sampler.draw(&[3], &[], &mut random, &mut candidates);
        assert_eq!(
            sampler.column(0),
            None,
            "columns of the step before are forgotten"
        );
    }

    #[test]
    fn a_small_catalogue_is_scored_whole() {
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut sampler = CandidateSampler::new(&[1, 1, 1], 2, true);
        let mut candidates = Candidates::default();
        sampler.draw(&[2], &[1], &mut random, &mut candidates);
        assert_eq!(candidates.items, [0, 1, 2]);
        assert_eq!(candidates.negative_bias, [0.0; 3]);
    }
}
