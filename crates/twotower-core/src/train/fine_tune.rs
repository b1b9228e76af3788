//! Going on from a trained model: its vocabularies grow, weights and optimisers carry over, the likes that came in since are
//! learned.

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

/// Key of the number of steps in the file of the optimisers.
const STEPS: &str = "adam_steps";

/// A model to go on from.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The model.
    pub model: &'a Model,
    /// What [`Run::optimizer_state`] gave when it was done.
    pub optimizer: &'a [u8],
    /// How many of each user's likes it has learned, the oldest of them.
    pub learned: &'a [u32],
}

/// Why there is nothing to go on with.
#[derive(Debug, Error)]
pub enum FineTuneError {
    /// The state of the optimisers is not that of the model.
    #[error("the state of the optimisers does not fit the model: {0}")]
    Optimizer(TensorError),
    /// All likes are known to the model already.
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
    /// A run of `epochs` epochs from `base` over the windows that hold a like which it has not learned, and
    /// in each epoch as many examples of other windows, drawn anew, so that what was learned is not forgotten (experience
    /// replay, Rolnick et al. 2019).
    ///
    /// What `base` does not know starts as it is served by it, by the rest of what is known of a video: the row of a new video at zero,
    /// that of a new term at what the known terms beside it come to. A random start, as that of a run from first weights, would not
    /// be over after so few steps.
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
        let tables = (
            std::mem::take(&mut model.item_tower.id_table),
            std::mem::take(&mut model.item_tower.term_table),
        );
        model.item_tower = base.model.item_tower.clone();
        model.item_tower.id_table = moved(&base.model.item_tower.id_table, &ids, tables.0);
        model.item_tower.term_table = moved(&base.model.item_tower.term_table, &terms, tables.1);
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

    /// Accumulators of known rows and the moments of dense layers; new rows start without a past.
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
        // Exact: training ends long before 2²⁴ steps, and bias correction is 1 long before that.
        let mut steps = [self.stepper.adam_steps() as f32];
        let mut tensors = self.stepper.tensors_mut();
        tensors.push((STEPS.to_owned(), vec![1], &mut steps));
        tensors::write(&tensors, &[])
    }
}

/// `table`, with each row of `known` at the place that `rows` gives it.
fn moved(known: &Matrix, rows: &[usize], mut table: Matrix) -> Matrix {
    for (row, &place) in rows.iter().enumerate() {
        table.row_mut(place).copy_from_slice(known.row(row));
    }
    table
}

/// Gives each new row, which is zero, the mean over those of `videos` that have it of the mean of the known rows in its field: so the
/// mean of the field, which a video is seen by, stays about what it was when the new term did not count. A field with new
/// terms alone counts as zero, as it did.
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
