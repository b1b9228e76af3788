//! Trains trials, one step of the search at a time, each from its own checkpoint, and saves the
//! results.

use super::super::JobError;
use super::budget::Budget;
use super::folder::StateFolder;
use super::halving::{self, Step};
use super::space;
use super::state::{RungResult, State};
use super::watch::Watch;
use crate::interrupt::Interrupt;
use anyhow::Context;
use std::time::{Duration, Instant};
use twotower_core::hyperparameters::{Hyperparameters, Selection};
use twotower_core::split::HeldOut;
use twotower_core::train::{EpochRecord, Goal, Memory, Prepared, Progress, Run, TrainError};

/// A search in progress.
pub(super) struct Tuner<'a> {
    /// The training part, prepared once for all trials, which do not differ in anything that it
    /// depends on.
    pub(super) data: Prepared<'a>,
    /// The validation part.
    pub(super) held_out: &'a HeldOut,
    pub(super) folder: &'a StateFolder,
    pub(super) state: State,
    pub(super) budget: Budget,
    /// Time between two checkpoints within a rung; `None` turns them off.
    pub(super) checkpoint_interval: Option<Duration>,
    pub(super) interrupt: &'a Interrupt,
}

impl Tuner<'_> {
    /// Runs the rest of the search, until it is complete or the budget is used up.
    ///
    /// # Errors
    /// [`JobError::Interrupted`]; or the disk fails, there is nothing to learn from, or a version
    /// that trains differently began the search. The state is kept.
    pub(super) fn run(&mut self) -> anyhow::Result<()> {
        if self.state.next().is_some() && !self.budget.is_over() {
            self.check_training()?;
            self.check_checkpoints()?;
            let memory = self.memory()?;
            tracing::info!("memory of a trial, at most: {memory}");
        }
        let selection = self.selection();
        let mut watch = Watch::new(&self.state, selection);
        self.save_state()?;
        while let Some(step) = self.state.next().filter(|_| !self.budget.is_over()) {
            let result = self.advance(step, &mut watch);
            if let Ok(Some(result)) = &result {
                let results = &mut self.state.trials[step.trial].results;
                results.push(*result);
                watch.result(step, result, self.best());
            }
            self.save_state()?;
            self.drop_checkpoints()?;
            if result?.is_none() {
                break;
            }
        }
        watch.finish(match self.state.next() {
            None => "every rung is done",
            Some(_) => "the budget is over",
        });
        Ok(())
    }

    /// Trains a trial up to a rung. `None`: the budget was used up before.
    fn advance(&self, step: Step, watch: &mut Watch) -> anyhow::Result<Option<RungResult>> {
        let rung_epochs = self.state.rungs[step.rung];
        let hyperparameters = &self.state.trials[step.trial].hyperparameters;
        let mut run = self.begin(step.trial, hyperparameters)?;
        let mut saved = Instant::now();
        while run.epochs().len() < rung_epochs {
            let progress = match run.advance() {
                Ok(Some(progress)) => progress,
                // Early stopping ended the trial.
                Ok(None) => break,
                Err(error) if is_divergence(&error) => {
                    tracing::debug!("trial {} diverged: {error}", step.trial);
                    return Ok(Some(RungResult {
                        score: None,
                        ..self.result(run.epochs())
                    }));
                }
                Err(error) => return Err(error.into()),
            };
            watch.see(step, &progress);
            if self.interrupt.is_set() {
                self.save_checkpoint(step.trial, &mut run)?;
                return Err(JobError::Interrupted.into());
            }
            let epoch_is_done = matches!(progress, Progress::Epoch(_));
            if epoch_is_done && run.epochs().len() < rung_epochs && self.budget.is_over() {
                self.save_checkpoint(step.trial, &mut run)?;
                return Ok(None);
            }
            let interval = self.checkpoint_interval;
            if interval.is_some_and(|interval| saved.elapsed() >= interval) {
                self.save_checkpoint(step.trial, &mut run)?;
                self.save_state()?;
                saved = Instant::now();
            }
        }
        self.save_checkpoint(step.trial, &mut run)?;
        Ok(Some(self.result(run.epochs())))
    }

    /// A run from the beginning, or from the checkpoint of the previous rung.
    fn begin(&self, trial: usize, hyperparameters: &Hyperparameters) -> anyhow::Result<Run<'_>> {
        let run = self.data.run(hyperparameters, Goal::Best(self.held_out))?;
        let Some(bytes) = self.folder.checkpoint(trial)? else {
            return Ok(run);
        };
        run.resume(&self.tag(trial), &bytes).with_context(|| {
            let path = self.folder.checkpoint_path(trial);
            format!(
                "go on from {}; remove it, and with --resume this trial alone begins again",
                path.display()
            )
        })
    }

    fn save_checkpoint(&self, trial: usize, run: &mut Run<'_>) -> anyhow::Result<()> {
        let bytes = run.checkpoint(&self.tag(trial))?;
        self.folder.save_checkpoint(trial, &bytes)
    }

    /// Saves the state, with the time used.
    fn save_state(&self) -> anyhow::Result<()> {
        self.folder.save(&State {
            used_s: self.budget.used_s(),
            ..self.state.clone()
        })
    }

    /// Removes the checkpoints of trials that are out of play.
    fn drop_checkpoints(&self) -> anyhow::Result<()> {
        let in_play = halving::in_play(&self.state.scores(), self.state.rungs.len());
        (0..self.state.trials.len())
            .filter(|trial| !in_play.contains(trial))
            .try_for_each(|trial| self.folder.drop_checkpoint(trial))
    }

    /// Maximum memory of a trial. One is trained at a time; the parts that all share count as parts
    /// of each.
    fn memory(&self) -> anyhow::Result<Memory> {
        let trials = self.state.trials.iter();
        let largest = space::largest(trials.map(|trial| &trial.hyperparameters));
        Ok(self.data.memory(&largest, Goal::Best(self.held_out))?)
    }

    /// Identifies the data and the purpose of the checkpoint of a trial.
    pub(super) fn tag(&self, trial: usize) -> String {
        let state = &self.state;
        format!("{} {:?} trial {trial}", state.snapshot_sha256, state.split)
    }

    fn selection(&self) -> Selection {
        self.state.trials[halving::BASELINE]
            .hyperparameters
            .selection
    }

    /// The result of the epochs of a trial: the best epoch, or the first of equal ones.
    fn result(&self, epochs: &[EpochRecord]) -> RungResult {
        let mut result = RungResult {
            epochs: epochs.len(),
            best_epoch: 0,
            score: None,
        };
        for record in epochs {
            let score = record.validation.map(|score| self.selection().of(&score));
            if score > result.score {
                (result.best_epoch, result.score) = (record.epoch, score);
            }
        }
        result
    }

    /// The best trial until now, and its score.
    fn best(&self) -> Option<(usize, f64)> {
        let scores = self.state.scores();
        let best = halving::winner(&scores)?;
        Some((best, scores[best].last().copied().flatten()?))
    }
}

/// Whether the hyperparameters made training fail: it diverged, or vectors became zero.
fn is_divergence(error: &TrainError) -> bool {
    match error {
        TrainError::Diverged { .. } | TrainError::Embedding(_) | TrainError::Evaluation(_) => true,
        TrainError::NoExamples | TrainError::Read(_) => false,
    }
}
