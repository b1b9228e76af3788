//! One training step: a batch of windows forward through both towers and the loss, backward, and
//! into the weights.

#[cfg(test)]
mod golden;

use super::head::{self, Dropout, HeadGradients, HeadPass};
use super::history;
use super::plan::{self, Plan};
use super::prefix_states::PrefixStates;
use super::window::Excerpt;
use crate::feature::ItemFeatures;
use crate::hyperparameters::Hyperparameters;
use crate::kernel::{self, Rows};
use crate::loss::{Gradients, Operands, Row, SampledSoftmax};
use crate::model::Model;
use crate::optimizer::{Adam, RowAdagrad};
use crate::scratch;
use crate::tensors::Tensor;
use crate::tower::ItemTower;
use rayon::prelude::*;

/// Windows per task.
const WINDOWS_PER_TASK: usize = 4;

/// State and buffers of the steps, apart from the model.
pub(super) struct Stepper {
    item_pass: HeadPass,
    user_pass: HeadPass,
    softmax: SampledSoftmax,
    item_gradients: HeadGradients,
    user_gradients: HeadGradients,
    dense_optimizer: Adam,
    id_optimizer: RowAdagrad,
    term_optimizer: RowAdagrad,
    /// `[B, d]`
    user_vector_gradients: Vec<f32>,
    /// Of the step's videos, `[n, d]`.
    item_vector_gradients: Vec<f32>,
}

/// Inputs of a step.
#[derive(Clone, Copy)]
pub(super) struct StepData<'a> {
    pub(super) features: &'a ItemFeatures,
    /// Vectors of all videos at the start of the epoch, `[V, d]`.
    pub(super) vectors: &'a [f32],
    /// Computed from `vectors`.
    pub(super) prefix_states: &'a PrefixStates,
    pub(super) batch: &'a [Excerpt<'a>],
    /// Plan of the batch.
    pub(super) plan: &'a Plan,
}

impl<'a> StepData<'a> {
    fn vector(self, item: u32, dim: usize) -> &'a [f32] {
        &self.vectors[item as usize * dim..(item as usize + 1) * dim]
    }

    /// Column of a liked video of the batch, and its row of `vectors` `[n, d]`, the step's own.
    fn live(self, vectors: &[f32], item: u32, dim: usize) -> (usize, &[f32]) {
        // Every liked video of the batch got a column when candidates were drawn.
        let column = self.plan.column(item).unwrap_or_default();
        (column, &vectors[column * dim..(column + 1) * dim])
    }
}

/// Results of the forward pass over a batch's histories that the loss and the backward pass need.
struct Examples {
    /// 1 / (sum of weights) of each scale, `[B, k]`.
    factors: Vec<f32>,
    /// Columns of the candidates that each window's user likes.
    known: Vec<Vec<u32>>,
    /// Columns of the candidates that each window's user skipped.
    skipped: Vec<Vec<u32>>,
    /// Window of each example, `[B]`.
    window_of: Vec<u32>,
}

/// One window and its part of the batch's buffers.
struct Part<'a> {
    excerpt: Excerpt<'a>,
    /// Columns of the candidates that the user likes.
    known: Vec<u32>,
    /// Columns of the candidates that the user skipped.
    skipped: Vec<u32>,
    x: &'a mut [f32],
    factors: &'a mut [f32],
}

impl Stepper {
    pub(super) fn new(model: &mut Model) -> Self {
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
            item_pass: HeadPass::default(),
            user_pass: HeadPass::default(),
            softmax: SampledSoftmax::default(),
            item_gradients,
            user_gradients,
            dense_optimizer: Adam::new(sizes, hyper.learning_rate, hyper.weight_decay),
            id_optimizer: RowAdagrad::new(ids, hyper.table_learning_rate),
            term_optimizer: RowAdagrad::new(terms, hyper.table_learning_rate),
            user_vector_gradients: Vec::new(),
            item_vector_gradients: Vec::new(),
        }
    }

    /// Sets the learning rates to `factor` times those of the hyperparameters.
    pub(super) fn set_rate_factor(&mut self, factor: f32) {
        self.dense_optimizer.set_rate_factor(factor);
        self.id_optimizer.set_rate_factor(factor);
        self.term_optimizer.set_rate_factor(factor);
    }

    /// Number of steps of the dense optimiser.
    pub(super) fn adam_steps(&self) -> i32 {
        self.dense_optimizer.steps()
    }

    /// Sets the number of steps of the dense optimiser, when a run is resumed.
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

    /// Trains on the batch; returns the mean loss in nats.
    pub(super) fn step(&mut self, model: &mut Model, data: StepData<'_>) -> f32 {
        let loss = self.gradients(model, data);
        self.apply(model, data.plan);
        loss
    }

    /// Forward and backward pass. Leaves the gradient of the mean loss in the buffers.
    fn gradients(&mut self, model: &Model, data: StepData<'_>) -> f32 {
        let hyper = &model.hyperparameters;
        let (items, users) = (&model.item_tower.head, &model.user_tower.head);
        let dropout = Dropout {
            input: hyper.input_dropout,
            hidden: hyper.hidden_dropout,
            seed: data.plan.seed,
        };
        self.embed_items(model, data);
        let examples = self.embed_users(model, data, dropout);
        let loss = self.score(hyper, data, &examples);
        let Self {
            item_pass,
            user_pass,
            item_gradients,
            user_gradients,
            user_vector_gradients,
            item_vector_gradients,
            ..
        } = self;
        user_pass.backward(users, dropout, user_vector_gradients);
        // The gradients of the user tower's weights are not needed before the weights change.
        rayon::join(
            || user_pass.weight_gradients(users, user_gradients),
            || {
                let (dx, factors) = (&user_pass.dx, &examples.factors);
                let vectors = &item_pass.out;
                back_through_histories(model, data, vectors, dx, factors, item_vector_gradients);
                item_pass.backward(items, Dropout::default(), item_vector_gradients);
                item_pass.weight_gradients(items, item_gradients);
            },
        );
        loss
    }

    /// Passes the batch's histories through the user tower.
    fn embed_users(&mut self, model: &Model, data: StepData<'_>, dropout: Dropout) -> Examples {
        let StepData { batch, plan, .. } = data;
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
        let candidates = &plan.candidates.items[..plan.candidates.len()];
        let vectors = &self.item_pass.out;
        parts
            .par_chunks_mut(WINDOWS_PER_TASK)
            .flatten()
            .for_each(|part| {
                let column = |item| plan.column(item);
                part.known = part.excerpt.known(data.prefix_states, candidates, column);
                if hyper.skip_weight > 0.0 {
                    let columns = part.excerpt.skipped().filter_map(column);
                    part.skipped.extend(columns.map(|column| column as u32));
                }
                let (state, skipped) =
                    part.excerpt
                        .state_before(tower, data.vectors, data.prefix_states);
                let live = |item| data.live(vectors, item, hyper.embedding_dim);
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

    /// Computes the loss and its gradients with respect to the vectors of users and candidates.
    fn score(&mut self, hyper: &Hyperparameters, data: StepData<'_>, examples: &Examples) -> f32 {
        let dim = hyper.embedding_dim;
        let StepData { plan, .. } = data;
        let (targets, candidates) = (&plan.targets, &plan.candidates);
        scratch::resize(&mut self.user_vector_gradients, targets.len() * dim);
        // Gradients are accumulated here.
        self.item_vector_gradients.clear();
        let videos = candidates.items.len();
        scratch::resize(&mut self.item_vector_gradients, videos * dim);
        let scored = candidates.len() * dim;
        // Every target is a candidate.
        let column = |&item: &u32| plan.column(item).unwrap_or_default();
        let columns: Vec<usize> = targets.iter().map(column).collect();
        self.softmax.forward_backward(
            Operands {
                users: &self.user_pass.out,
                vectors: &self.item_pass.out[..scored],
                candidates,
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

    /// Passes the step's videos through the item tower, some with their id hidden.
    fn embed_items(&mut self, model: &Model, data: StepData<'_>) {
        let StepData { features, plan, .. } = data;
        let tower = &model.item_tower;
        let items = &plan.candidates.items;
        self.item_pass.resize(&tower.head, items.len());
        let rows = self
            .item_pass
            .x
            .par_chunks_mut(tower.inputs())
            .zip(items)
            .zip(&plan.with_id)
            .enumerate();
        rows.with_min_len(32)
            .for_each_init(Vec::new, |scratch, (n, ((x, &item), &with_id))| {
                plan::prefetch_features(features, items, n);
                tower.input(features, item as usize, with_id, x, scratch);
            });
        self.item_pass.forward(&tower.head, Dropout::default());
    }

    /// Applies the gradients to the weights.
    fn apply(&mut self, model: &mut Model, plan: &Plan) {
        let (inputs, dim) = (model.item_tower.inputs(), model.item_tower.dim());
        let ItemTower {
            id_table,
            term_table,
            head,
        } = &mut model.item_tower;
        let ids = Rows {
            data: &self.item_pass.dx,
            stride: inputs,
            offset: 0,
        };
        let terms = Rows { offset: dim, ..ids };
        let weights = head::weights(head)
            .into_iter()
            .chain(head::weights(&mut model.user_tower.head));
        let gradients = self
            .item_gradients
            .iter()
            .chain(&self.user_gradients)
            .map(Vec::as_slice);
        let layers = weights.zip(gradients).collect();
        let (id_optimizer, term_optimizer) = (&mut self.id_optimizer, &mut self.term_optimizer);
        let dense_optimizer = &mut self.dense_optimizer;
        let step_ids = || id_optimizer.step(id_table, plan.ids.grouped(), ids);
        let step_terms = || term_optimizer.step(term_table, plan.terms.grouped(), terms);
        rayon::join(step_ids, || {
            rayon::join(step_terms, || dense_optimizer.step(layers))
        });
    }
}

fn vector<'a>(name: &str, data: &'a mut [f32]) -> Tensor<'a> {
    (name.to_owned(), vec![data.len()], data)
}

/// Back-propagates the gradients `dx` of the user tower's inputs to the liked videos' `vectors`,
/// and adds them to the candidates' own gradients in `sums`; both `[n, d]`.
fn back_through_histories(
    model: &Model,
    data: StepData<'_>,
    vectors: &[f32],
    dx: &[f32],
    factors: &[f32],
    sums: &mut [f32],
) {
    let tower = &model.user_tower;
    let (dim, inputs, scales) = (tower.dim(), tower.inputs(), tower.decays.len());
    let mut first = 0;
    let firsts: Vec<usize> = data
        .batch
        .iter()
        .map(|window| {
            first += window.examples();
            first - window.examples()
        })
        .collect();
    let gradients: Vec<Vec<(usize, Vec<f32>)>> = data
        .batch
        .par_iter()
        .zip(firsts)
        .with_min_len(WINDOWS_PER_TASK)
        .map(|(window, first)| {
            let rows = first..first + window.examples();
            let dx = &dx[rows.start * inputs..rows.end * inputs];
            let factors = &factors[rows.start * scales..rows.end * scales];
            let mut gradients = Vec::new();
            let live = |item| data.live(vectors, item, dim);
            // Skips pass no gradient: treat all of them as used.
            let script = window.script(usize::MAX, live, |item| data.vector(item, dim));
            history::backward(tower, script.into_iter(), dx, factors, |row, gradient| {
                gradients.push((row, gradient.to_vec()));
            });
            gradients
        })
        .collect();
    for (row, gradient) in gradients.into_iter().flatten() {
        let sum = &mut sums[row * dim..(row + 1) * dim];
        kernel::axpy(1.0, &gradient, sum);
    }
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
