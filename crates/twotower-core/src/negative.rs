//! Candidates of a step: every target of the batch and uniformly drawn negatives, each video once,
//! with its logQ.
//!
//! Not every video may be a negative: a video that nobody could like yet says nothing by not being
//! liked.

use crate::kernel;
use rand::{Rng, RngExt};
use std::sync::Arc;

/// Not a candidate of this step.
const ABSENT: u32 = u32::MAX;

/// The candidates of one step. The first `len()` columns are scored; [`Candidates::items`]
/// continues with videos that are only in a history.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Candidates, then history-only videos. Distinct.
    pub items: Vec<u32>,
    /// `[C]`, added to the logit of a candidate that is not the row's target: ln(times drawn) -
    /// ln(expected times) - β ln p, see [`CandidateSampler::adjusted`].
    pub negative_bias: Vec<f32>,
    /// `[C]`, added to the logit of the row's own target: -ln(expected times) - β ln p.
    pub positive_bias: Vec<f32>,
    /// `[C]`, added to the logit of a candidate that the row's user skipped: the bias of a
    /// negative, with the weight of a skip added.
    pub skipped_bias: Vec<f32>,
}

impl Candidates {
    /// Number of candidates C.
    pub fn len(&self) -> usize {
        self.negative_bias.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.negative_bias.is_empty()
    }
}

/// Draws candidates.
///
/// Scoring each distinct video once and adding the log of how often it was drawn equals scoring
/// every draw. Subtracting the log of how often it is expected makes the sampled softmax an
/// estimate of the full one (Bengio & Senécal 2008; Yi et al. 2019, for in-batch negatives; the
/// expectation here is that of the mixture).
///
/// Clones share the frequencies of videos; each keeps its own candidates.
#[derive(Debug, Clone)]
pub struct CandidateSampler {
    /// Share of each video among the targets of an epoch, `[V]`.
    target_share: Arc<[f32]>,
    /// β ln p of each video, `[V]`; empty if β is 0.
    adjustment: Arc<[f32]>,
    options: SamplerOptions,
    /// The videos that negatives are drawn from, ascending; `None` stands for all.
    eligible: Option<Arc<[u32]>>,
    /// Column of each video in this step, `[V]`.
    columns: Vec<u32>,
    counts: Vec<u32>,
}

/// How candidates are drawn and weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// Number of videos drawn uniformly in each step.
    pub negatives: usize,
    /// Whether the log of the expectation is subtracted. `false` is for ablations: without it
    /// popular videos are learned as negatives far more often than others, and the rest of a list
    /// ranks worse.
    pub log_q: bool,
    /// A skipped video counts as this many more videos of the catalogue among the negatives of the
    /// user who skipped it, in addition to itself.
    pub skip_weight: f32,
}

/// Videos that a step needs.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    /// Videos to be predicted, one per example.
    pub targets: &'a [u32],
    /// Videos that users of the batch skipped. They are scored for those users, drawn or not.
    pub skipped: &'a [u32],
    /// Other videos whose vectors the step needs.
    pub history: &'a [u32],
}

impl CandidateSampler {
    /// `targets` `[V]`: how often each video is a target in an epoch, on average. Its share of
    /// these is its probability in a batch, which the correction uses. Negatives are drawn from all
    /// videos.
    pub fn new(targets: &[f64], options: SamplerOptions) -> Self {
        let total = targets.iter().sum::<f64>().max(1.0);
        Self {
            target_share: targets.iter().map(|&n| (n / total) as f32).collect(),
            adjustment: Arc::default(),
            options,
            eligible: None,
            columns: vec![ABSENT; targets.len()],
            counts: Vec::new(),
        }
    }

    /// The same for learning ln p(video | user) + β ln p(video), where p(video) is its share of the
    /// training likes, `like_counts` `[V]`, plus one each. So β = `popularity` above 0 ranks
    /// popular videos higher than the likes do, and below 0 lower (logit adjustment, Menon et al.
    /// 2021, whose τ is -β).
    #[must_use]
    pub fn adjusted(self, popularity: f32, like_counts: &[u32]) -> Self {
        if popularity == 0.0 {
            return self;
        }
        let likes = like_counts.iter().map(|&n| f64::from(n));
        let total = likes.clone().sum::<f64>().max(1.0);
        let one_like = (1.0 / total) as f32;
        let adjustment = likes.map(|n| popularity * ((n / total) as f32 + one_like).ln());
        Self {
            adjustment: adjustment.collect(),
            ..self
        }
    }

    /// The same with negatives drawn only from `eligible`, ascending, if it is given. It must
    /// contain all targets, skipped videos and histories.
    #[must_use]
    pub fn among(self, eligible: Option<Arc<[u32]>>) -> Self {
        Self { eligible, ..self }
    }

    /// Column of `item` in the latest candidates, including history-only videos.
    pub fn column(&self, item: u32) -> Option<usize> {
        let column = self.columns[item as usize];
        (column != ABSENT).then_some(column as usize)
    }

    /// Draws the candidates of a step. Videos of `history` that are no candidates get columns after
    /// them.
    ///
    /// If at least as many candidates could be drawn as there are videos to draw from, all of these
    /// are candidates and the softmax is exact.
    pub fn draw(
        &mut self,
        Drawn {
            targets,
            skipped,
            history,
        }: Drawn<'_>,
        random: &mut impl Rng,
        into: &mut Candidates,
    ) {
        for &item in targets {
            self.prefetch(item);
        }
        for &item in &into.items {
            self.columns[item as usize] = ABSENT;
        }
        into.items.clear();
        self.counts.clear();
        let videos = self.videos();
        let SamplerOptions {
            negatives, log_q, ..
        } = self.options;
        let exact = log_q && targets.len() + negatives >= videos;
        if exact {
            for n in 0..videos as u32 {
                self.count(self.eligible(n), into);
            }
        } else {
            for &item in targets {
                self.count(item, into);
            }
            let drawn = std::iter::repeat_with(|| random.random_range(0..videos as u32));
            let drawn: Vec<u32> = drawn
                .take(negatives)
                .map(|n| self.eligible(n))
                .inspect(|&item| self.prefetch(item))
                .collect();
            for item in drawn {
                self.count(item, into);
            }
        }
        for &item in skipped {
            if self.add(item, into) {
                self.counts.push(0);
            }
        }
        self.set_biases(exact, targets.len(), into);
        for &item in history {
            self.add(item, into);
        }
    }

    /// Sets the biases of the candidates. A video drawn n times where n̂ times are expected stands
    /// for n / n̂ videos among the negatives (logQ correction, Yi et al. 2019). n̂ is B · its share
    /// among targets + negatives / V, where V counts the videos that are drawn from. If the draw
    /// was `exact`, or without correction, n̂ is 1. `targets`: B.
    fn set_biases(&self, exact: bool, targets: usize, into: &mut Candidates) {
        let SamplerOptions {
            negatives,
            log_q,
            skip_weight,
        } = self.options;
        into.negative_bias.clear();
        into.positive_bias.clear();
        into.skipped_bias.clear();
        let uniform = negatives as f32 / self.videos() as f32;
        for (&item, &count) in into.items.iter().zip(&self.counts) {
            let share = self.target_share[item as usize];
            let expected = match (exact, log_q) {
                (false, true) => targets as f32 * share + uniform,
                _ => 1.0,
            };
            let adjustment = self.adjustment.get(item as usize).copied().unwrap_or(0.0);
            // A video that was not drawn is no target and has no weight, however unlikely it was to
            // be drawn.
            let (weight, positive_bias) = match count {
                0 => (0.0, 0.0),
                _ => (count as f32 / expected, -expected.ln()),
            };
            into.positive_bias.push(positive_bias - adjustment);
            into.negative_bias.push(weight.ln() - adjustment);
            into.skipped_bias
                .push((weight + skip_weight).ln() - adjustment);
        }
    }

    /// Number of videos that may be drawn.
    fn videos(&self) -> usize {
        (self.eligible.as_ref()).map_or(self.columns.len(), |list| list.len())
    }

    /// The `n`-th video that may be drawn.
    fn eligible(&self, n: u32) -> u32 {
        self.eligible.as_ref().map_or(n, |list| list[n as usize])
    }

    /// Prefetches what [`CandidateSampler::draw`] reads of a video.
    fn prefetch(&self, item: u32) {
        kernel::prefetch(std::slice::from_ref(&self.columns[item as usize]));
        kernel::prefetch(std::slice::from_ref(&self.target_share[item as usize]));
        if let Some(adjustment) = self.adjustment.get(item as usize) {
            kernel::prefetch(std::slice::from_ref(adjustment));
        }
    }

    /// Counts a draw of `item`.
    fn count(&mut self, item: u32, into: &mut Candidates) {
        if self.add(item, into) {
            self.counts.push(1);
        } else {
            self.counts[self.columns[item as usize] as usize] += 1;
        }
    }

    /// Gives `item` the next column unless it has one. Returns whether it got one.
    fn add(&mut self, item: u32, into: &mut Candidates) -> bool {
        let column = &mut self.columns[item as usize];
        let is_new = *column == ABSENT;
        if is_new {
            *column = into.items.len() as u32;
            into.items.push(item);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn options(negatives: usize) -> SamplerOptions {
        SamplerOptions {
            negatives,
            log_q: true,
            skip_weight: 0.5,
        }
    }

    fn drawn<'a>(targets: &'a [u32], skipped: &'a [u32], history: &'a [u32]) -> Drawn<'a> {
        Drawn {
            targets,
            skipped,
            history,
        }
    }

    #[test]
    fn each_video_once_with_the_log_of_its_surplus() {
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut sampler =
            CandidateSampler::new(&[6.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], options(0));
        let mut candidates = Candidates::default();
        sampler.draw(
            drawn(&[0, 0, 1], &[], &[5, 0]),
            &mut random,
            &mut candidates,
        );
        assert_eq!(candidates.items, [0, 1, 5]);
        assert_eq!(candidates.len(), 2);
        assert_eq!((sampler.column(5), sampler.column(7)), (Some(2), None));
        // Expected 3 · 6/8 times, drawn twice.
        assert!((candidates.negative_bias[0] - (2.0_f32 / 2.25).ln()).abs() < 1e-6);
        assert!((candidates.positive_bias[0] + 2.25_f32.ln()).abs() < 1e-6);
        sampler.draw(drawn(&[3], &[], &[]), &mut random, &mut candidates);
        assert_eq!(
            sampler.column(0),
            None,
            "columns of the step before are forgotten"
        );
    }

    #[test]
    fn a_skipped_video_is_scored_for_those_who_skipped_it_alone() {
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut sampler =
            CandidateSampler::new(&[3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], options(0));
        let mut candidates = Candidates::default();
        let step = drawn(&[0, 0], &[7, 0], &[5]);
        sampler.draw(step, &mut random, &mut candidates);
        assert_eq!(
            (candidates.items.as_slice(), candidates.len()),
            (&[0, 7, 5][..], 2)
        );
        assert!(candidates.negative_bias[1] == f32::NEG_INFINITY);
        assert!((candidates.skipped_bias[1] - 0.5_f32.ln()).abs() < 1e-6);
        // Expected 2 · 3/4 times, drawn twice.
        assert!((candidates.skipped_bias[0] - (2.0_f32 / 1.5 + 0.5).ln()).abs() < 1e-6);
    }

    /// With logits ln p(video | user) + β ln p(video) the loss is that of ln p(video | user)
    /// without adjustment.
    #[test]
    fn popularity_is_taken_off_every_bias() {
        let likes = [6, 2, 0, 0, 0, 0, 0, 0];
        // Not all liked videos are targets.
        let targets = [3.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let [plain, adjusted] = [0.0, 0.25].map(|popularity| {
            let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
            let mut candidates = Candidates::default();
            let sampler = CandidateSampler::new(&targets, options(2));
            sampler.adjusted(popularity, &likes).draw(
                drawn(&[0, 1], &[7], &[]),
                &mut random,
                &mut candidates,
            );
            candidates
        });
        assert_eq!(plain.items, adjusted.items);
        assert!(plain.len() > 2);
        for (column, &item) in plain.items.iter().enumerate() {
            let off = 0.25 * (f64::from(likes[item as usize] + 1) / 8.0).ln() as f32;
            let biases = |candidates: &Candidates| {
                [
                    candidates.positive_bias[column],
                    candidates.negative_bias[column],
                    candidates.skipped_bias[column],
                ]
            };
            for (before, after) in biases(&plain).into_iter().zip(biases(&adjusted)) {
                // A weight of 0 is an infinite bias before and after.
                assert!(((before - off).exp() - after.exp()).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn negatives_come_from_the_eligible_videos_at_their_rate() {
        let targets = [6.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let eligible: Arc<[u32]> = [0, 1, 3, 4, 6].into();
        let sampler = |negatives| {
            CandidateSampler::new(&targets, options(negatives)).among(Some(eligible.clone()))
        };
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut candidates = Candidates::default();
        let mut sampled = sampler(2);
        let mut seen = [false; 8];
        for _ in 0..200 {
            sampled.draw(drawn(&[0, 1], &[], &[]), &mut random, &mut candidates);
            for &item in &candidates.items {
                seen[item as usize] = true;
            }
        }
        assert_eq!(
            seen,
            [0, 1, 2, 3, 4, 5, 6, 7].map(|n| eligible.contains(&n))
        );
        // Expected 2 · 6/8 times as a target, and 2/5 times drawn.
        assert!((candidates.positive_bias[0] + (1.5_f32 + 0.4).ln()).abs() < 1e-6);
        sampler(3).draw(drawn(&[0, 1], &[], &[]), &mut random, &mut candidates);
        assert_eq!(candidates.items, *eligible, "all of them, and each once");
        assert_eq!(candidates.negative_bias, [0.0; 5]);
    }

    /// With a list of all videos the draws are the same as without a list.
    #[test]
    fn a_list_of_all_videos_changes_nothing() {
        let draw = |eligible: Option<Arc<[u32]>>| {
            let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
            let mut candidates = Candidates::default();
            let mut sampler = CandidateSampler::new(&[1.0; 50], options(9)).among(eligible);
            sampler.draw(drawn(&[0, 1], &[7], &[8]), &mut random, &mut candidates);
            (candidates.items, candidates.negative_bias)
        };
        assert_eq!(draw(None), draw(Some((0..50).collect())));
    }

    #[test]
    fn a_small_catalogue_is_scored_whole() {
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut sampler = CandidateSampler::new(&[1.0; 3], options(2));
        let mut candidates = Candidates::default();
        sampler.draw(drawn(&[2], &[], &[1]), &mut random, &mut candidates);
        assert_eq!(candidates.items, [0, 1, 2]);
        assert_eq!(candidates.negative_bias, [0.0; 3]);
    }
}
