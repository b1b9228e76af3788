//! The parts of a step that do not depend on weights. One thread plans them while the others learn
//! the previous step.

use super::read_ahead::{Loaded, ReadAhead};
use super::table::RowUses;
use super::window::{Excerpt, Window};
use crate::feature::ItemFeatures;
use crate::hyperparameters::Hyperparameters;
use crate::negative::{CandidateSampler, Candidates, Drawn, SamplerOptions};
use crate::timeline::Timelines;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64Mcg;
use std::io;
use std::sync::Arc;

/// Features are prefetched this many videos ahead.
const ITEMS_AHEAD: usize = 2;

/// Frequencies of videos that candidates are drawn and weighed by.
#[derive(Debug)]
pub(super) struct Frequencies<'a> {
    /// How often each video is a target in an epoch, `[V]`.
    pub(super) targets: &'a [f64],
    /// Training likes of each video, `[V]`.
    pub(super) likes: &'a [u32],
    /// Videos that may be negatives, unless all may.
    pub(super) eligible: Option<Arc<[u32]>>,
}

/// The plan of one batch: targets, candidates, and the rows of the tables that they use.
#[derive(Debug)]
pub(super) struct Plan {
    sampler: CandidateSampler,
    lookahead: usize,
    skip_weight: f32,
    id_dropout: f32,
    /// Videos to be predicted, one per example, `[B]`.
    pub(super) targets: Vec<u32>,
    pub(super) candidates: Candidates,
    /// For each of the step's videos, whether the tower sees its id.
    pub(super) with_id: Vec<bool>,
    /// Rows of the tables that the videos use.
    pub(super) ids: RowUses,
    pub(super) terms: RowUses,
    /// Seed of the dropout.
    pub(super) seed: u64,
}

impl Plan {
    /// A plan for a catalogue with these frequencies.
    pub(super) fn new(hyper: &Hyperparameters, videos: Frequencies<'_>) -> Self {
        let options = SamplerOptions {
            negatives: hyper.negatives,
            log_q: hyper.log_q,
            skip_weight: hyper.skip_weight,
        };
        let sampler = CandidateSampler::new(videos.targets, options)
            .adjusted(hyper.popularity, videos.likes)
            .among(videos.eligible);
        Self::with(sampler, hyper)
    }

    /// Another plan for the same catalogue.
    fn another(&self, hyper: &Hyperparameters) -> Self {
        Self::with(self.sampler.clone(), hyper)
    }

    fn with(sampler: CandidateSampler, hyper: &Hyperparameters) -> Self {
        Self {
            sampler,
            lookahead: hyper.lookahead,
            skip_weight: hyper.skip_weight,
            id_dropout: hyper.id_dropout,
            targets: Vec::new(),
            candidates: Candidates::default(),
            with_id: Vec::new(),
            ids: RowUses::default(),
            terms: RowUses::default(),
            seed: 0,
        }
    }

    /// Column of `item` among the step's videos.
    pub(super) fn column(&self, item: u32) -> Option<usize> {
        self.sampler.column(item)
    }

    /// Draws everything that is random about learning `batch`, and sorts the rows that it uses.
    pub(super) fn draw(
        &mut self,
        features: &ItemFeatures,
        batch: &[Excerpt<'_>],
        random: &mut Pcg64Mcg,
    ) {
        self.targets.clear();
        for window in batch {
            self.targets.extend(window.targets(self.lookahead, random));
        }
        let history: Vec<u32> = batch.iter().flat_map(|window| window.items()).collect();
        let mut skipped = Vec::new();
        if self.skip_weight > 0.0 {
            skipped.extend(batch.iter().flat_map(|window| window.skipped()));
        }
        let drawn = Drawn {
            targets: &self.targets,
            skipped: &skipped,
            history: &history,
        };
        self.sampler.draw(drawn, random, &mut self.candidates);
        let shown = self.candidates.items.iter();
        let shown = shown.map(|_| random.random::<f32>() >= self.id_dropout);
        self.with_id.clear();
        self.with_id.extend(shown);
        self.seed = random.next_u64();
        self.find_rows(features);
    }

    /// Finds the rows of the tables that the step's videos use.
    fn find_rows(&mut self, features: &ItemFeatures) {
        self.ids.clear();
        self.terms.clear();
        let items = &self.candidates.items;
        let mut scratch = Vec::new();
        for (source, (&item, &with_id)) in items.iter().zip(&self.with_id).enumerate() {
            prefetch_features(features, items, source);
            let id = features.id_row(item as usize);
            if with_id && id != 0 {
                self.ids.touch(id, source, 1.0);
            }
            let (rows, weights) = features.terms(item as usize, &mut scratch);
            for (&row, &weight) in rows.iter().zip(weights) {
                self.terms.touch(row, source, weight);
            }
        }
        self.ids.group();
        self.terms.group();
    }
}

/// Prefetches features that are needed soon after those of the `n`-th of `items`.
pub(super) fn prefetch_features(features: &ItemFeatures, items: &[u32], n: usize) {
    if let Some(&later) = items.get(n + 2 * ITEMS_AHEAD) {
        features.prefetch(later as usize);
    }
    if let Some(&soon) = items.get(n + ITEMS_AHEAD) {
        features.prefetch_terms(soon as usize);
    }
}

/// A batch of an epoch with its plan.
#[derive(Debug)]
pub(super) struct Batch {
    /// Number of the step in the epoch, from planning until learning.
    step: Option<usize>,
    /// The batch's timelines, if they are not in memory.
    loaded: Option<Loaded>,
    pub(super) plan: Plan,
}

impl Batch {
    /// Two batches without plans: one is learned while the other is planned.
    pub(super) fn pair(hyper: &Hyperparameters, videos: Frequencies<'_>) -> [Self; 2] {
        let plan = Plan::new(hyper, videos);
        [plan.another(hyper), plan].map(|plan| Self {
            step: None,
            loaded: None,
            plan,
        })
    }

    /// Whether it is planned for step `step`.
    pub(super) fn is_for(&self, step: usize) -> bool {
        self.step == Some(step)
    }

    /// Discards the plan.
    pub(super) fn forget(&mut self) {
        self.step = None;
        self.loaded = None;
    }

    /// Plans step `step` over `windows`, whose timelines come from `read_ahead` if they are not in
    /// memory.
    ///
    /// # Errors
    /// If a timeline cannot be read.
    pub(super) fn prepare(
        &mut self,
        step: usize,
        windows: &[Window],
        timelines: &dyn Timelines,
        read_ahead: Option<&mut ReadAhead>,
        features: &ItemFeatures,
        mut random: Pcg64Mcg,
    ) -> io::Result<()> {
        self.forget();
        self.loaded = read_ahead.map(ReadAhead::next).transpose()?;
        let excerpts = excerpts(self.loaded.as_ref(), windows, timelines);
        self.plan.draw(features, &excerpts, &mut random);
        self.step = Some(step);
        Ok(())
    }

    /// The batch's windows with their timelines. `windows` must be those that the batch was
    /// prepared for.
    pub(super) fn excerpts<'t>(
        &'t self,
        windows: &[Window],
        timelines: &'t dyn Timelines,
    ) -> Vec<Excerpt<'t>> {
        excerpts(self.loaded.as_ref(), windows, timelines)
    }
}

fn excerpts<'t>(
    loaded: Option<&'t Loaded>,
    windows: &[Window],
    timelines: &'t dyn Timelines,
) -> Vec<Excerpt<'t>> {
    if let Some(loaded) = loaded {
        return loaded.excerpts(windows);
    }
    let held = |user: u32| timelines.held(user as usize).unwrap_or_default();
    windows
        .iter()
        .map(|window| window.of(held(window.user)))
        .collect()
}
