//! The state of a search, as its folder holds it.

use super::halving::{self, Step};
use super::space;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::split::SplitKind;
use twotower_core::train::Training;

/// The plan of a search: data, split, seed and trials. Two searches of the same plan end with the
/// same result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// SHA-256 of the snapshot, hex.
    pub(super) snapshot_sha256: String,
    /// How likes are split.
    pub(super) split: SplitKind,
    /// Seed for drawing trials.
    pub(super) seed: u64,
    /// Number of trials.
    pub(super) trials: usize,
    /// The present configuration: trial 0.
    pub(super) base: Hyperparameters,
}

/// The drawn trials of a plan, and their results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// SHA-256 of the snapshot, hex.
    pub(super) snapshot_sha256: String,
    /// How likes are split.
    pub(super) split: SplitKind,
    /// Seed for drawing trials.
    pub(super) seed: u64,
    /// Number of epochs of each rung.
    pub(super) rungs: Vec<usize>,
    /// Wall-clock time used, seconds.
    pub(super) used_s: f64,
    /// Version of twotower that began the search; empty in the states of early versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// How the version that scored the trials trains. The states of early versions do not say;
    /// those trained as versions did then.
    #[serde(default)]
    pub(super) training: Training,
    /// Trials in the order of their numbers.
    pub(super) trials: Vec<Trial>,
}

/// A configuration and its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    pub(super) hyperparameters: Hyperparameters,
    /// One result per completed rung.
    pub(super) results: Vec<RungResult>,
}

/// The result of a trial at a rung.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RungResult {
    /// Number of epochs trained; fewer than those of the rung if early stopping ended it.
    pub(super) epochs: usize,
    /// The best epoch, counted from 1; 0 if training diverged in the first.
    pub(super) best_epoch: usize,
    /// Validation metric of the best epoch; `None` if training diverged.
    pub(super) score: Option<f64>,
}

/// Why a search cannot be resumed from a state.
#[derive(Debug, Error)]
pub(super) enum StateError {
    /// The state cannot be parsed.
    #[error(
        "{path} does not say where a search stood ({cause}): start over without --resume, or name another --state-dir"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The parse error.
        cause: serde_json::Error,
    },
    /// The state is of another search.
    #[error(
        "{path} is of another search: {differences}. Give what it was begun with, start over without --resume, or name another --state-dir"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs between the file and the command.
        differences: String,
    },
    /// The state is of another version, which searched differently.
    #[error(
        "{path} is of another version of twotower: {why}. Start over without --resume, or name another --state-dir"
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// What this version cannot continue.
        why: String,
    },
    /// The trials were trained by another version, which trains differently.
    #[error(
        "{path}: this version of twotower ({here}) trains otherwise than {begun_by}, with which the search was begun: {reason}. \
         What its trials scored cannot be compared with what they would score now: start over without --resume, or name another \
         --state-dir{keep}",
        here = VERSION
    )]
    OtherTraining {
        /// The file that shows it: the state, or the first such checkpoint.
        path: PathBuf,
        /// The version that trained the trials.
        begun_by: String,
        /// What differs.
        reason: String,
        /// How to keep the results, if there are any.
        keep: &'static str,
    },
}

/// Version of twotower.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl State {
    /// The initial state of a search.
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
            version: Some(VERSION.to_owned()),
            training: Training::default(),
            trials: trials.collect(),
        }
    }

    /// Checks that this state, read from `path`, is of the same search as its initial state
    /// `fresh`. The drawn trials may differ, see [`State::is_drawn_otherwise`].
    ///
    /// # Errors
    /// [`StateError::Other`] lists all differences; [`StateError::OtherVersion`] if another version
    /// made a state of the same plan that this version cannot continue.
    pub(super) fn check_same(&self, fresh: &Self, path: PathBuf) -> Result<(), StateError> {
        let mut differences = Vec::new();
        let mut differs = |what: &str, there: String, here: String| {
            differences.push(format!("its {what} ({there}), now it is {here}"));
        };
        let (there, here) = (&self.snapshot_sha256, &fresh.snapshot_sha256);
        if there != here {
            differs("data differ", short(there), short(here));
        }
        let (there, here) = (self.split, fresh.split);
        if there != here {
            let name = |split: SplitKind| split.name().to_owned();
            differs("split differs", name(there), name(here));
        }
        let (there, here) = (self.seed, fresh.seed);
        if there != here {
            differs("seed differs", there.to_string(), here.to_string());
        }
        let (there, here) = (self.trials.len(), fresh.trials.len());
        if there != here {
            let what = "number of trials differs";
            differs(what, there.to_string(), here.to_string());
        }
        let [there, here] = [self, fresh].map(|state| {
            let trial = state.trials.first();
            trial.map(|trial| trial.hyperparameters.clone())
        });
        if there != here {
            let (there, here) = difference(there, here);
            differs("configuration differs", there, here);
        }
        if !differences.is_empty() {
            let differences = differences.join("; ");
            return Err(StateError::Other { path, differences });
        }
        self.check_trials(fresh, &path)
    }

    /// Whether this version can train the trials in their rungs.
    fn check_trials(&self, fresh: &Self, path: &Path) -> Result<(), StateError> {
        let mut why = None;
        if self.rungs != fresh.rungs {
            let (there, here) = (&self.rungs, &fresh.rungs);
            why = Some(format!(
                "its rungs are of {there:?} epochs, here of {here:?}"
            ));
        }
        for (number, trial) in self.trials.iter().enumerate() {
            if let Err(error) = trial.hyperparameters.validate() {
                why = Some(format!(
                    "its trial {number} cannot be trained here: {error}"
                ));
            }
        }
        why.map_or(Ok(()), |why| {
            let path = path.to_owned();
            Err(StateError::OtherVersion { path, why })
        })
    }

    /// Whether `fresh`, of the same plan, has other trials, because the version that began the
    /// search had another search space. The state holds the hyperparameters of each trial, so that
    /// their scores are comparable all the same.
    pub(super) fn is_drawn_otherwise(&self, fresh: &Self) -> bool {
        let mut both = self.trials.iter().zip(&fresh.trials);
        both.any(|(there, here)| there.hyperparameters != here.hyperparameters)
    }

    /// Whether any trial has a score or has diverged.
    pub(super) fn has_results(&self) -> bool {
        self.trials.iter().any(|trial| !trial.results.is_empty())
    }

    /// Scores of each trial.
    pub(super) fn scores(&self) -> Vec<Vec<Option<f64>>> {
        self.trials
            .iter()
            .map(|trial| trial.results.iter().map(|result| result.score).collect())
            .collect()
    }

    /// The next step; `None` at the end of the search.
    pub(super) fn next(&self) -> Option<Step> {
        halving::next(&self.scores(), self.rungs.len())
    }
}

/// The first digits of a hash, enough to tell two apart.
pub(super) fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

/// The hyperparameters that differ, in the state and here.
fn difference(there: Option<Hyperparameters>, here: Option<Hyperparameters>) -> (String, String) {
    let lines = |hyperparameters: Option<Hyperparameters>| {
        let text =
            hyperparameters.and_then(|hyperparameters| toml::to_string(&hyperparameters).ok());
        text.unwrap_or_default()
    };
    let (there, here) = (lines(there), lines(here));
    let both = there.lines().zip(here.lines());
    let (there, here): (Vec<&str>, Vec<&str>) = both.filter(|(there, here)| there != here).unzip();
    (there.join(", "), here.join(", "))
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
        let base = Hyperparameters {
            epochs: 6,
            lookahead: 4,
            ..Hyperparameters::default()
        };
        let all = refusal(Plan {
            seed: 2,
            base,
            ..plan()
        });
        let expected = "its seed differs (1), now it is 2; its configuration differs (lookahead = 1, epochs = 20), now it is \
                        lookahead = 4, epochs = 6. Give";
        assert!(all.contains(expected), "{all}");
    }

    #[test]
    fn a_search_of_another_version_goes_on_with_its_own_trials_if_they_can_be_trained() {
        let fresh = State::new(&plan());
        let mut older = State::new(&plan());
        assert!(!older.is_drawn_otherwise(&fresh));
        older.trials[3].hyperparameters.window = 3;
        assert!(older.is_drawn_otherwise(&fresh));
        assert!(older.check_same(&fresh, PathBuf::new()).is_ok());
        // As written by versions that did not record their number.
        let mut text = serde_json::to_value(&older).unwrap();
        for since in ["version", "training"] {
            text.as_object_mut().unwrap().remove(since);
        }
        let unnamed: State = serde_json::from_value(text).unwrap();
        assert_eq!(unnamed.version, None);
        assert_eq!(unnamed.training, Training::default());
        assert!(unnamed.check_same(&fresh, PathBuf::new()).is_ok());

        let refusal = |state: &State| {
            let error = state.check_same(&fresh, PathBuf::new()).unwrap_err();
            assert!(matches!(error, StateError::OtherVersion { .. }));
            error.to_string()
        };
        older.trials[3].hyperparameters.window = 1;
        let said = refusal(&older);
        assert!(
            said.contains("its trial 3 cannot be trained here"),
            "{said}"
        );
        let rungs = State {
            rungs: vec![1, 20],
            ..State::new(&plan())
        };
        let said = refusal(&rungs);
        assert!(
            said.contains("its rungs are of [1, 20] epochs, here of [3, 7, 20]")
                && said.contains("Start over without --resume"),
            "{said}"
        );
    }
}
