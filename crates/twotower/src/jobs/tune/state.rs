//! Where a search stands, as its folder keeps it.

use super::halving::{self, Step};
use super::space;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use thiserror::Error;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::split::SplitKind;

/// What is searched on, and how. Two searches of the same plan end at the same result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// SHA-256 of the snapshot, hex.
    pub(super) snapshot_sha256: String,
    /// How likes are cut.
    pub(super) split: SplitKind,
    /// Seed of the drawing.
    pub(super) seed: u64,
    /// Number of trials.
    pub(super) trials: usize,
    /// The configuration as it is: trial 0.
    pub(super) base: Hyperparameters,
}

/// The plan, drawn, and what is known so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// SHA-256 of the snapshot, hex.
    pub(super) snapshot_sha256: String,
    /// How likes are cut.
    pub(super) split: SplitKind,
    /// Seed of the drawing.
    pub(super) seed: u64,
    /// Epochs of each rung.
    pub(super) rungs: Vec<usize>,
    /// Wall-clock time used, seconds.
    pub(super) used_s: f64,
    /// By number.
    pub(super) trials: Vec<Trial>,
}

/// One configuration and what it scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    pub(super) hyperparameters: Hyperparameters,
    /// One for each rung that it did.
    pub(super) results: Vec<RungResult>,
}

/// What a trial came to at a rung.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RungResult {
    /// Epochs that it has done; fewer than the rung's if patience ended it.
    pub(super) epochs: usize,
    /// The best one, from 1; 0 if it diverged in the first.
    pub(super) best_epoch: usize,
    /// Validation metric of the best one; `None` if it diverged.
    pub(super) score: Option<f64>,
}

/// A state that a search cannot go on from.
#[derive(Debug, Error)]
pub(super) enum StateError {
    /// It cannot be understood.
    #[error(
        "{path} does not say where a search stood ({source}): start over without --resume, or name another --state-dir"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It is of another search.
    #[error(
        "{path} is of another search: its {what} ({there}), now it is {here}. Give what it was begun with, start over without --resume, or name another --state-dir"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the file.
        there: String,
        /// Of the command.
        here: String,
    },
}

impl State {
    /// The beginning of a search.
    pub(super) fn new(plan: &Plan) -> Self {
        let trials = space::draw(&plan.base, plan.seed, plan.trials)
            .into_iter()
            .map(|hyperparameters| Trial {
                hyperparameters,
                results: Vec::new(),
            });
        Self {
            snapshot_sha256: plan.snapshot_sha256.clone(),
            split: plan.split,
            seed: plan.seed,
            rungs: halving::rungs(plan.base.epochs),
            used_s: 0.0,
            trials: trials.collect(),
        }
    }

    /// Whether this state is of the same search as `fresh`, its beginning. `path` is where it was read.
    ///
    /// # Errors
    /// [`StateError::Other`] names the first difference.
    pub(super) fn check_same(&self, fresh: &Self, path: PathBuf) -> Result<(), StateError> {
        let configuration = |state: &Self| {
            let trial = state.trials.first();
            trial.map(|trial| trial.hyperparameters.clone())
        };
        let drawn = |state: &Self| -> Vec<Hyperparameters> {
            let trials = state.trials.iter();
            trials.map(|trial| trial.hyperparameters.clone()).collect()
        };
        let (what, there, here) = if self.snapshot_sha256 != fresh.snapshot_sha256 {
            let (there, here) = (&self.snapshot_sha256, &fresh.snapshot_sha256);
            ("data differ", short(there), short(here))
        } else if self.split != fresh.split {
            let name = |split: SplitKind| super::super::train::split_name(split).to_owned();
            ("split differs", name(self.split), name(fresh.split))
        } else if self.seed != fresh.seed {
            let (there, here) = (self.seed.to_string(), fresh.seed.to_string());
            ("seed differs", there, here)
        } else if self.trials.len() != fresh.trials.len() {
            let (there, here) = (self.trials.len(), fresh.trials.len());
            (
                "number of trials differs",
                there.to_string(),
                here.to_string(),
            )
        } else if configuration(self) != configuration(fresh) {
            let (there, here) = difference(configuration(self), configuration(fresh));
            ("configuration differs", there, here)
        } else if drawn(self) != drawn(fresh) || self.rungs != fresh.rungs {
            let version = |whose: &str| format!("that of {whose} version of twotower");
            ("search space differs", version("another"), version("this"))
        } else {
            return Ok(());
        };
        Err(StateError::Other {
            path,
            what,
            there,
            here,
        })
    }

    /// For each trial its scores.
    pub(super) fn scores(&self) -> Vec<Vec<Option<f64>>> {
        self.trials
            .iter()
            .map(|trial| trial.results.iter().map(|result| result.score).collect())
            .collect()
    }

    /// What to do next; `None` once the search is done.
    pub(super) fn next(&self) -> Option<Step> {
        halving::next(&self.scores(), self.rungs.len())
    }
}

/// Enough of a hash to tell two apart.
pub(super) fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

/// The first hyperparameter that differs, there and here.
fn difference(there: Option<Hyperparameters>, here: Option<Hyperparameters>) -> (String, String) {
    let lines = |hyperparameters: Option<Hyperparameters>| {
        let text =
            hyperparameters.and_then(|hyperparameters| toml::to_string(&hyperparameters).ok());
        text.unwrap_or_default()
    };
    let (there, here) = (lines(there), lines(here));
    there
        .lines()
        .zip(here.lines())
        .find(|(there, here)| there != here)
        .map(|(there, here)| (there.to_owned(), here.to_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            snapshot_sha256: "0123456789abcdef".into(),
            split: SplitKind::Temporal,
            seed: 1,
            trials: 9,
            base: Hyperparameters::default(),
        }
    }

    #[test]
    fn a_state_comes_back_to_the_bit() {
        let mut state = State::new(&plan());
        state.used_s = 12.345_678_901_234_567;
        for (n, trial) in state.trials.iter_mut().enumerate().skip(1) {
            trial.results.push(RungResult {
                epochs: 3,
                best_epoch: 2,
                score: (n > 2).then(|| (n as f64).sqrt() / 7.0),
            });
        }
        let text = serde_json::to_vec(&state).unwrap();
        let again: State = serde_json::from_slice(&text).unwrap();
        assert_eq!(again, state);
        assert_eq!(again.next(), Some(Step { rung: 0, trial: 0 }));
        assert!(
            again
                .check_same(&State::new(&plan()), PathBuf::new())
                .is_ok()
        );
    }

    #[test]
    fn another_search_is_refused_with_what_differs() {
        let state = State::new(&plan());
        let refusal = |plan: Plan| {
            let fresh = State::new(&plan);
            let error = state.check_same(&fresh, PathBuf::from("models/tune/state.json"));
            error.unwrap_err().to_string()
        };
        let base = Hyperparameters {
            epochs: 6,
            ..Hyperparameters::default()
        };
        for (other, expected) in [
            (
                Plan {
                    snapshot_sha256: "fedcba".into(),
                    ..plan()
                },
                "its data differ (0123456789ab), now it is fedcba.",
            ),
            (
                Plan {
                    split: SplitKind::Llo,
                    ..plan()
                },
                "its split differs (temporal), now it is llo.",
            ),
            (
                Plan { seed: 2, ..plan() },
                "its seed differs (1), now it is 2.",
            ),
            (
                Plan {
                    trials: 27,
                    ..plan()
                },
                "its number of trials differs (9), now it is 27.",
            ),
            (
                Plan { base, ..plan() },
                "its configuration differs (epochs = 20), now it is epochs = 6.",
            ),
        ] {
            let refusal = refusal(other);
            assert!(
                refusal.contains(expected) && refusal.contains("without --resume"),
                "{refusal}"
            );
        }
        let mut older = State::new(&plan());
        older.trials[3].hyperparameters.window = 3;
        let error = older.check_same(&state, PathBuf::new()).unwrap_err();
        assert!(
            error.to_string().contains("search space differs"),
            "{error}"
        );
    }
}
