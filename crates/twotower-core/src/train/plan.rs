//! What a step does that depends on no weight, found out on one thread while the step before is learned on the others.

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

/// Videos whose features are asked for before they are due.
const ITEMS_AHEAD: usize = 2;

/// How often videos come up, of which candidates are drawn and weighed.
#[derive(Debug)]
pub(super) struct Frequencies<'a> {
    /// How often each is a target in an epoch, `[V]`.
    pub(super) targets: &'a [f64],
    /// Training likes of each, `[V]`.
    pub(super) likes: &'a [u32],
    /// Those that may be negatives, if not all.
    pub(super) eligible: Option<Arc<[u32]>>,
}

/// One batch: what is predicted, against what, and which rows of the tables that takes.
#[derive(Debug)]
pub(super) struct Plan {
    sampler: CandidateSampler,
    lookahead: usize,
    skip_weight: f32,
    id_dropout: f32,
    /// Videos to be predicted, one an example, `[B]`.
    pub(super) targets: Vec<u32>,
    pub(super) candidates: Candidates,
    /// Whether the tower sees the id, of each of the step's videos.
    pub(super) with_id: Vec<bool>,
    /// Rows of the tables that the videos use.
    pub(super) ids: RowUses,
    pub(super) terms: RowUses,
    /// Of the dropout.
    pub(super) seed: u64,
}

impl Plan {
    /// For a catalogue that is drawn from as `videos` says.
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

    /// For the same catalogue.
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

    /// Draws all that is random about learning `batch`, and sorts what it uses.
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

    /// Which rows of the tables the step's videos use.
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

/// Asks for features that are due soon after those of the `n`-th of `items`.
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
    /// Which step of the epoch it is for, once it is planned and until it is learned.
    step: Option<usize>,
    /// Its timelines, if they are not in memory.
    loaded: Option<Loaded>,
    pub(super) plan: Plan,
}

impl Batch {
    /// Two without plans: one is learned while the other is planned.
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

    /// Forgets what it is for.
    pub(super) fn forget(&mut self) {
        self.step = None;
        self.loaded = None;
    }

    /// Plans step `step` over `windows`, which come from `read_ahead` where timelines are not in memory.
    ///
    /// # Errors
    /// If they could not be read.
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

    /// Its windows, which must be those that it was prepared for, with their timelines.
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
