//! Fine-tuning: the vocabularies of a trained model grow, its weights and optimiser state carry
//! over, and new likes are learned.

use super::prepared::Inputs;
use super::run::{Goal, Run};
use super::{Tally, TrainError, TrainingData, vocabularies};
use crate::feature::ItemFeatures;
use crate::kernel;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::tensors::{self, Tensor, TensorError};
use safetensors::SafeTensors;
use thiserror::Error;

/// Name of the tensor with the number of steps.
const STEPS: &str = "adam_steps";

/// A model to fine-tune.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The model.
    pub model: &'a Model,
    /// Result of [`Run::optimizer_state`] at the end of its training.
    pub optimizer: &'a [u8],
    /// For each user, the number of oldest likes that the model has learned.
    pub learned: &'a [u32],
}

/// Why fine-tuning cannot begin.
#[derive(Debug, Error)]
pub enum FineTuneError {
    /// The state of the optimisers does not fit the model.
    #[error("the state of the optimisers does not fit the model: {0}")]
    Optimizer(TensorError),
    /// The model knows all likes already.
    #[error(
        "no like is later than those that the model has learned: there is nothing to fine-tune it with"
    )]
    NothingNew,
    /// There is nothing to train on.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<TensorError> for FineTuneError {
    fn from(cause: TensorError) -> Self {
        Self::Optimizer(cause)
    }
}

impl Run<'static> {
    /// A run of `epochs` epochs from `base` over the windows with a like that `base` has not
    /// learned. Each epoch also draws as many examples from other windows, so that the model does
    /// not forget (experience replay, Rolnick et al. 2019).
    ///
    /// Rows that are new to `base` start so that `base` scores a video about as it did without
    /// them: the row of a new video is zero, and that of a new term is what the known terms beside
    /// it amount to. A random start, as that of a run from first weights, would still show after so
    /// few steps.
    ///
    /// # Errors
    /// [`FineTuneError`]
    pub fn fine_tune(
        data: TrainingData<'_>,
        base: Base<'_>,
        epochs: usize,
    ) -> Result<Self, FineTuneError> {
        let hyper = &base.model.hyperparameters;
        let known = &base.model.preprocessing;
        let tally = Tally::of(&data).map_err(TrainError::from)?;
        let newer = vocabularies(&data, &tally, hyper).map_err(TrainError::from)?;
        let preprocessing = known.extended(&newer);
        let inputs = Inputs::new(data, &tally, &preprocessing);
        let (ids, terms) = known.rows_in(&preprocessing);
        let mut model = Model::zeros(hyper.clone(), preprocessing);
        let (new, old) = (&mut model.item_tower, &base.model.item_tower);
        copy_rows(&old.id_table, &ids, &mut new.id_table);
        copy_rows(&old.term_table, &terms, &mut new.term_table);
        new.head = old.head.clone();
        model.user_tower = base.model.user_tower.clone();
        let mut run = Run::from_model(inputs, model, Goal::Epochs(epochs), base.learned)?;
        let table = &mut run.model.item_tower.term_table;
        let mut new_terms = vec![true; table.rows()];
        for &row in &terms {
            new_terms[row] = false;
        }
        let seen = (0..run.features.len()).filter(|&item| tally.seen[item]);
        start_new_terms(table, &new_terms, &run.features, seen);
        run.planned = epochs;
        run.restore_optimizer(base.optimizer, &ids, &terms)?;
        if run.windows.is_empty() {
            return Err(FineTuneError::NothingNew);
        }
        Ok(run)
    }

    /// Restores the accumulators of known rows and the moments of dense layers. New rows start with
    /// zero.
    fn restore_optimizer(
        &mut self,
        state: &[u8],
        ids: &[usize],
        terms: &[usize],
    ) -> Result<(), TensorError> {
        let file = SafeTensors::deserialize(state)?;
        let mut steps = [0.0];
        let (mut id_state, mut term_state) = (vec![0.0; ids.len()], vec![0.0; terms.len()]);
        let mut tensors: Vec<Tensor<'_>> = vec![
            (STEPS.to_owned(), vec![1], &mut steps),
            ("id_accumulators".to_owned(), vec![ids.len()], &mut id_state),
            (
                "term_accumulators".to_owned(),
                vec![terms.len()],
                &mut term_state,
            ),
        ];
        let mut own = self.stepper.tensors_mut();
        let dense = own.split_off(2);
        tensors.extend(dense);
        tensors::fill(&file, tensors)?;
        for (row, accumulator) in ids.iter().zip(id_state) {
            own[0].2[*row] = accumulator;
        }
        for (row, accumulator) in terms.iter().zip(term_state) {
            own[1].2[*row] = accumulator;
        }
        self.stepper.set_adam_steps(steps[0] as i32);
        Ok(())
    }
}

impl Run<'_> {
    /// The state of the optimisers as the bytes of a safetensors file, for [`Run::fine_tune`].
    ///
    /// # Errors
    /// [`TensorError::Format`] if the format refuses it, which it never should.
    pub fn optimizer_state(&mut self) -> Result<Vec<u8>, TensorError> {
        // Exact: training ends long before 2²⁴ steps, and by then bias correction is 1.
        let mut steps = [self.stepper.adam_steps() as f32];
        let mut tensors = self.stepper.tensors_mut();
        tensors.push((STEPS.to_owned(), vec![1], &mut steps));
        tensors::write(&tensors, &[])
    }
}

/// Copies each row of `known` to the row of `table` that `rows` gives.
fn copy_rows(known: &Matrix, rows: &[usize], table: &mut Matrix) {
    for (row, &place) in rows.iter().enumerate() {
        table.row_mut(place).copy_from_slice(known.row(row));
    }
}

/// Sets each new row, which is zero, to the mean, over those of `videos` that have it, of the mean
/// of the known rows in its field. So the mean of a field, which a video is represented by, stays
/// about the same as without the new term. Fields of new terms alone stay zero.
fn start_new_terms(
    table: &mut Matrix,
    is_new: &[bool],
    features: &ItemFeatures,
    videos: impl Iterator<Item = usize>,
) {
    let mut uses = vec![0_u32; is_new.len()];
    let mut mean = vec![0.0; table.cols()];
    for video in videos {
        for field in features.fields(video) {
            if !field.iter().any(|&row| is_new[row as usize]) {
                continue;
            }
            let (new, known): (Vec<u32>, Vec<u32>) =
                field.iter().partition(|&&row| is_new[row as usize]);
            let weights = vec![1.0 / known.len() as f32; known.len()];
            kernel::weighted_sum((&*table).into(), &known, &weights, &mut mean);
            for row in new {
                kernel::axpy(1.0, &mean, table.row_mut(row as usize));
                uses[row as usize] += 1;
            }
        }
    }
    for (row, &uses) in uses.iter().enumerate().filter(|(_, uses)| **uses > 1) {
        for x in table.row_mut(row) {
            *x /= uses as f32;
        }
    }
}
