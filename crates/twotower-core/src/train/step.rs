//! One step: a batch of windows forward through both towers and the loss, backward, and into the weights.

#[cfg(test)]
mod golden;

use super::head::{self, Dropout, HeadGradients, HeadPass};
use super::history;
use super::marks::Marks;
use super::table::RowUses;
use super::window::Excerpt;
use crate::feature::ItemFeatures;
use crate::hyperparameters::Hyperparameters;
use crate::kernel::{self, Rows};
use crate::loss::{Gradients, Operands, Row, SampledSoftmax};
use crate::model::Model;
use crate::negative::{CandidateSampler, Candidates, Drawn, SamplerOptions};
use crate::optimizer::{Adam, RowAdagrad};
use crate::scratch;
use crate::tensors::Tensor;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

/// Videos whose features are asked for before they are due.
const ITEMS_AHEAD: usize = 2;

/// Windows that one task follows.
const WINDOWS_PER_TASK: usize = 4;

/// What one step needs besides the model, kept from step to step.
pub(super) struct Stepper {
    sampler: CandidateSampler,
    candidates: Candidates,
    item_pass: HeadPass,
    user_pass: HeadPass,
    softmax: SampledSoftmax,
    item_gradients: HeadGradients,
    user_gradients: HeadGradients,
    used_ids: RowUses,
    used_terms: RowUses,
    dense_optimizer: Adam,
    id_optimizer: RowAdagrad,
    term_optimizer: RowAdagrad,
    /// Gradients of user vectors `[B, d]` and of the step's video vectors `[n, d]`.
    user_vector_gradients: Vec<f32>,
    item_vector_gradients: Vec<f32>,
    with_id: Vec<bool>,
}

/// What a step reads.
#[derive(Clone, Copy)]
pub(super) struct StepData<'a> {
    pub(super) features: &'a ItemFeatures,
    /// Vectors of all videos at the start of the epoch, `[V, d]`.
    pub(super) vectors: &'a [f32],
    /// Of these vectors.
    pub(super) marks: &'a Marks,
}

impl<'a> StepData<'a> {
    fn vector(self, item: u32, dim: usize) -> &'a [f32] {
        &self.vectors[item as usize * dim..(item as usize + 1) * dim]
    }
}

/// What the forward pass over a batch's histories leaves for the loss and the backward pass.
struct Examples {
    /// 1 / (sum of weights) of each scale, `[B, k]`.
    factors: Vec<f32>,
    /// Columns of candidates that the user of each window likes.
    known: Vec<Vec<u32>>,
    /// Columns of candidates that the user of each window skipped.
    skipped: Vec<Vec<u32>>,
    /// Window of each example, `[B]`.
    window_of: Vec<u32>,
}

/// One window with its share of the batch's buffers.
struct Part<'a> {
    excerpt: Excerpt<'a>,
    /// Columns of candidates that the window's user likes.
    known: Vec<u32>,
    /// Columns of candidates that the window's user skipped.
    skipped: Vec<u32>,
    x: &'a mut [f32],
    factors: &'a mut [f32],
}

impl Stepper {
    pub(super) fn new(model: &mut Model, like_counts: &[u32]) -> Self {
        let hyper = model.hyperparameters.clone();
        let (items, users) = (&mut model.item_tower.head, &mut model.user_tower.head);
        let (item_gradients, user_gradients) =
            (head::zero_gradients(items), head::zero_gradients(users));
        let sizes = item_gradients
            .iter()
            .chain(&user_gradients)
            .map(Vec::len)
            .collect::<Vec<_>>();
        let (ids, terms) = (
            model.item_tower.id_table.rows(),
            model.item_tower.term_table.rows(),
        );
        Self {
            sampler: CandidateSampler::new(
                like_counts,
                SamplerOptions {
                    negatives: hyper.negatives,
                    log_q: hyper.log_q,
                    skip_weight: hyper.skip_weight,
                    popularity: hyper.popularity,
                },
            ),
            candidates: Candidates::default(),
            item_pass: HeadPass::default(),
            user_pass: HeadPass::default(),
            softmax: SampledSoftmax::default(),
            item_gradients,
            user_gradients,
            used_ids: RowUses::default(),
            used_terms: RowUses::default(),
            dense_optimizer: Adam::new(sizes, hyper.learning_rate, hyper.weight_decay),
            id_optimizer: RowAdagrad::new(ids, hyper.table_learning_rate),
            term_optimizer: RowAdagrad::new(terms, hyper.table_learning_rate),
            user_vector_gradients: Vec::new(),
            item_vector_gradients: Vec::new(),
            with_id: Vec::new(),
        }
    }

    /// Sets the learning rates to `factor` times those of the hyperparameters.
    pub(super) fn set_rate(&mut self, factor: f32) {
        self.dense_optimizer.set_rate(factor);
        self.id_optimizer.set_rate(factor);
        self.term_optimizer.set_rate(factor);
    }

    /// Steps of the dense optimiser so far.
    pub(super) fn adam_steps(&self) -> i32 {
        self.dense_optimizer.steps()
    }

    /// Sets the number of steps of the dense optimiser, for a run that goes on.
    pub(super) fn set_adam_steps(&mut self, steps: i32) {
        self.dense_optimizer.set_steps(steps);
    }

    /// The state of the optimisers.
    pub(super) fn tensors_mut(&mut self) -> Vec<Tensor<'_>> {
        let (ids, terms) = (&mut self.id_optimizer, &mut self.term_optimizer);
        let mut tensors: Vec<Tensor<'_>> = vec![
            vector("id_accumulators", ids.accumulators_mut()),
            vector("term_accumulators", terms.accumulators_mut()),
        ];
        for (layer, (first, second)) in self.dense_optimizer.moments_mut().iter_mut().enumerate() {
            tensors.push(vector(&format!("first_moment.{layer}"), first));
            tensors.push(vector(&format!("second_moment.{layer}"), second));
        }
        tensors
    }

    /// Trains on `batch`; returns the mean loss in nats and the number of examples.
    pub(super) fn step(
        &mut self,
        model: &mut Model,
        data: StepData<'_>,
        batch: &[Excerpt<'_>],
        random: &mut Pcg64Mcg,
    ) -> (f32, usize) {
        let (loss, examples) = self.gradients(model, data, batch, random);
        self.apply(model);
        (loss, examples)
    }

    /// Forward and backward: leaves the gradient of the mean loss in the buffers.
    fn gradients(
        &mut self,
        model: &Model,
        data: StepData<'_>,
        batch: &[Excerpt<'_>],
        random: &mut Pcg64Mcg,
    ) -> (f32, usize) {
        let lookahead = model.hyperparameters.lookahead;
        let targets: Vec<u32> = (batch.iter())
            .flat_map(|window| window.targets(lookahead, random))
            .collect();
        let liked: Vec<u32> = batch.iter().flat_map(|window| window.items()).collect();
        let mut skipped = Vec::new();
        if model.hyperparameters.skip_weight > 0.0 {
            skipped.extend(batch.iter().flat_map(|window| window.skipped()));
        }
        let drawn = Drawn {
            targets: &targets,
            skipped: &skipped,
            history: &liked,
        };
        self.sampler.draw(drawn, random, &mut self.candidates);
        self.embed_items(model, data.features, random);
        let mut ids = std::mem::take(&mut self.used_ids);
        let mut terms = std::mem::take(&mut self.used_terms);
        let (items, with_id) = (self.candidates.items.clone(), self.with_id.clone());
        let seed = random.next_u64();
        // Which rows get gradients does not wait for the gradients: one thread finds that out while others go on.
        let (loss, ()) = rayon::join(
            || self.towers_and_loss(model, data, batch, &targets, seed),
            || touch_rows(data.features, &items, &with_id, &mut ids, &mut terms),
        );
        (self.used_ids, self.used_terms) = (ids, terms);
        (loss, targets.len())
    }

    /// From the videos' vectors to the loss, and back to the gradients of their inputs.
    fn towers_and_loss(
        &mut self,
        model: &Model,
        data: StepData<'_>,
        batch: &[Excerpt<'_>],
        targets: &[u32],
        seed: u64,
    ) -> f32 {
        let hyper = &model.hyperparameters;
        let dropout = Dropout {
            input: hyper.input_dropout,
            hidden: hyper.hidden_dropout,
            seed,
        };
        let examples = self.embed_users(model, data, batch, dropout);
        let loss = self.score(hyper, targets, &examples);
        self.user_pass.backward(
            &model.user_tower.head,
            dropout,
            &self.user_vector_gradients,
            &mut self.user_gradients,
        );
        self.back_through_histories(model, data, batch, &examples.factors);
        self.item_pass.backward(
            &model.item_tower.head,
            Dropout::default(),
            &self.item_vector_gradients,
            &mut self.item_gradients,
        );
        loss
    }

    /// Column and vector of a liked video of the batch.
    fn live(&self, item: u32, dim: usize) -> (usize, &[f32]) {
        // Every liked video of the batch was given a column when candidates were drawn.
        let column = self.sampler.column(item).unwrap_or_default();
        (
            column,
            &self.item_pass.out[column * dim..(column + 1) * dim],
        )
    }

    /// The batch's histories through the user tower.
    fn embed_users(
        &mut self,
        model: &Model,
        data: StepData<'_>,
        batch: &[Excerpt<'_>],
        dropout: Dropout,
    ) -> Examples {
        let (tower, hyper) = (&model.user_tower, &model.hyperparameters);
        let (inputs, scales) = (tower.inputs(), tower.decays.len());
        let window_of: Vec<u32> = (0u32..)
            .zip(batch)
            .flat_map(|(n, window)| std::iter::repeat_n(n, window.examples()))
            .collect();
        let mut pass = std::mem::take(&mut self.user_pass);
        pass.resize(&tower.head, window_of.len());
        let mut factors = vec![0.0; window_of.len() * scales];
        let mut parts = cut(batch, &mut pass.x, &mut factors, inputs, scales);
        let candidates = &self.candidates.items[..self.candidates.len()];
        parts
            .par_chunks_mut(WINDOWS_PER_TASK)
            .flatten()
            .for_each(|part| {
                let column = |item| self.sampler.column(item);
                part.known = part.excerpt.known(data.marks, candidates, column);
                if hyper.skip_weight > 0.0 {
                    let skipped = part.excerpt.skipped();
                    let columns = skipped.filter_map(|item| self.sampler.column(item));
                    part.skipped.extend(columns.map(|column| column as u32));
                }
                let (state, skipped) = part.excerpt.state_before(tower, data.vectors, data.marks);
                let live = |item| self.live(item, hyper.embedding_dim);
                let script = part
                    .excerpt
                    .script(skipped, live, |item| data.vector(item, hyper.embedding_dim));
                history::forward(tower, state, script.into_iter(), part.x, part.factors);
            });
        let (known, skipped) = parts
            .into_iter()
            .map(|part| (part.known, part.skipped))
            .unzip();
        pass.forward(&tower.head, dropout);
        self.user_pass = pass;
        Examples {
            factors,
            known,
            skipped,
            window_of,
        }
    }

    /// The loss, and its gradients with respect to the vectors of users and candidates.
    fn score(&mut self, hyper: &Hyperparameters, targets: &[u32], examples: &Examples) -> f32 {
        let dim = hyper.embedding_dim;
        scratch::resize(&mut self.user_vector_gradients, targets.len() * dim);
        // Gradients are added to these.
        self.item_vector_gradients.clear();
        let videos = self.candidates.items.len();
        scratch::resize(&mut self.item_vector_gradients, videos * dim);
        let scored = self.candidates.len() * dim;
        let columns: Vec<usize> = targets.iter().map(|&item| self.live(item, dim).0).collect();
        self.softmax.forward_backward(
            Operands {
                users: &self.user_pass.out,
                vectors: &self.item_pass.out[..scored],
                candidates: &self.candidates,
                dim,
                temperature: hyper.temperature,
            },
            |b| Row {
                target: columns[b],
                known: &examples.known[examples.window_of[b] as usize],
                skipped: &examples.skipped[examples.window_of[b] as usize],
            },
            &mut Gradients {
                users: &mut self.user_vector_gradients,
                candidates: &mut self.item_vector_gradients[..scored],
            },
        )
    }

    /// From the gradients of the user tower's inputs to those of the liked videos' vectors, added to the candidates' own.
    fn back_through_histories(
        &mut self,
        model: &Model,
        data: StepData<'_>,
        batch: &[Excerpt<'_>],
        factors: &[f32],
    ) {
        let tower = &model.user_tower;
        let (dim, inputs, scales) = (tower.dim(), tower.inputs(), tower.decays.len());
        let mut first = 0;
        let firsts: Vec<usize> = batch
            .iter()
            .map(|window| {
                first += window.examples();
                first - window.examples()
            })
            .collect();
        let gradients: Vec<Vec<(usize, Vec<f32>)>> = batch
            .par_iter()
            .zip(firsts)
            .with_min_len(WINDOWS_PER_TASK)
            .map(|(window, first)| {
                let rows = first..first + window.examples();
                let dx = &self.user_pass.dx[rows.start * inputs..rows.end * inputs];
                let factors = &factors[rows.start * scales..rows.end * scales];
                let mut gradients = Vec::new();
                let live = |item| self.live(item, dim);
                // Skips pass no gradient on: all of them count as used up.
                let script = window.script(usize::MAX, live, |item| data.vector(item, dim));
                history::backward(tower, script.into_iter(), dx, factors, |row, gradient| {
                    gradients.push((row, gradient.to_vec()));
                });
                gradients
            })
            .collect();
        for (row, gradient) in gradients.into_iter().flatten() {
            let sum = &mut self.item_vector_gradients[row * dim..(row + 1) * dim];
            kernel::axpy(1.0, &gradient, sum);
        }
    }

    /// The step's videos through the item tower, some with their id hidden.
    fn embed_items(&mut self, model: &Model, features: &ItemFeatures, random: &mut Pcg64Mcg) {
        let tower = &model.item_tower;
        let items = &self.candidates.items;
        let rate = model.hyperparameters.id_dropout;
        self.with_id.clear();
        self.with_id
            .extend(items.iter().map(|_| random.random::<f32>() >= rate));
        self.item_pass.resize(&tower.head, items.len());
        let rows = self
            .item_pass
            .x
            .par_chunks_mut(tower.inputs())
            .zip(items)
            .zip(&self.with_id)
            .enumerate();
        rows.with_min_len(32)
            .for_each_init(Vec::new, |scratch, (n, ((x, &item), &with_id))| {
                prefetch_features(features, items, n);
                tower.input(features, item as usize, with_id, x, scratch);
            });
        self.item_pass.forward(&tower.head, Dropout::default());
    }

    /// Gradients into weights.
    fn apply(&mut self, model: &mut Model) {
        let tower = &mut model.item_tower;
        let ids = Rows {
            data: &self.item_pass.dx,
            stride: tower.inputs(),
            offset: 0,
        };
        let terms = Rows {
            offset: tower.dim(),
            ..ids
        };
        let (used_ids, used_terms) = (&mut self.used_ids, &mut self.used_terms);
        self.id_optimizer
            .step(&mut tower.id_table, used_ids.rows(), |n, sum| {
                used_ids.gradient(n, ids, sum);
            });
        self.term_optimizer
            .step(&mut tower.term_table, used_terms.rows(), |n, sum| {
                used_terms.gradient(n, terms, sum);
            });
        used_ids.clear();
        used_terms.clear();
        let weights = head::weights(&mut model.item_tower.head)
            .into_iter()
            .chain(head::weights(&mut model.user_tower.head));
        let gradients = self
            .item_gradients
            .iter()
            .chain(&self.user_gradients)
            .map(Vec::as_slice);
        self.dense_optimizer.step(weights.zip(gradients).collect());
    }
}

fn vector<'a>(name: &str, data: &'a mut [f32]) -> Tensor<'a> {
    (name.to_owned(), vec![data.len()], data)
}

/// Asks for features that are due soon after those of the `n`-th of `items`.
fn prefetch_features(features: &ItemFeatures, items: &[u32], n: usize) {
    if let Some(&later) = items.get(n + 2 * ITEMS_AHEAD) {
        features.prefetch(later as usize);
    }
    if let Some(&soon) = items.get(n + ITEMS_AHEAD) {
        features.prefetch_terms(soon as usize);
    }
}

/// Notes which rows of the tables the step's videos use.
fn touch_rows(
    features: &ItemFeatures,
    items: &[u32],
    with_id: &[bool],
    ids: &mut RowUses,
    terms: &mut RowUses,
) {
    let mut scratch = Vec::new();
    for (source, (&item, &with_id)) in items.iter().zip(with_id).enumerate() {
        prefetch_features(features, items, source);
        let id = features.id_row(item as usize);
        if with_id && id != 0 {
            ids.touch(id, source, 1.0);
        }
        let (rows, weights) = features.terms(item as usize, &mut scratch);
        for (&row, &weight) in rows.iter().zip(weights) {
            terms.touch(row, source, weight);
        }
    }
    ids.group();
    terms.group();
}

/// Gives each window of `batch` its rows of the batch's buffers.
fn cut<'a>(
    batch: &[Excerpt<'a>],
    mut x: &'a mut [f32],
    mut factors: &'a mut [f32],
    inputs: usize,
    scales: usize,
) -> Vec<Part<'a>> {
    batch
        .iter()
        .map(|&excerpt| {
            let (x_own, x_left) = std::mem::take(&mut x).split_at_mut(excerpt.examples() * inputs);
            let (factors_own, factors_left) =
                std::mem::take(&mut factors).split_at_mut(excerpt.examples() * scales);
            (x, factors) = (x_left, factors_left);
            Part {
                excerpt,
                known: Vec::new(),
                skipped: Vec::new(),
                x: x_own,
                factors: factors_own,
            }
        })
        .collect()
}
