//! Checks whether a search can be resumed: once, before anything is trained, instead of trial by
//! trial.

use super::halving;
use super::state::StateError;
use super::tuner::Tuner;
use std::path::PathBuf;
use twotower_core::train::ResumeError;

impl Tuner<'_> {
    /// Checks that the scored trials were trained as this version trains, and records how this
    /// version trains. Checkpoints say the same, but only for trials that may continue: the others
    /// have none, and a search of one rung has none at all.
    ///
    /// # Errors
    /// [`StateError::OtherTraining`]
    pub(super) fn check_training(&mut self) -> Result<(), StateError> {
        let baseline = &self.state.trials[halving::BASELINE];
        let here = self.data.training(&baseline.hyperparameters);
        if self.state.has_results()
            && let Some(what) = self.state.training.difference(&here)
        {
            let reason = format!("its {what} differ");
            return Err(self.other_training(self.folder.state_path(), reason));
        }
        self.state.training = here;
        Ok(())
    }

    /// Checks the checkpoints that trials would resume from. If one is damaged or of another
    /// search, its trial begins again, and the same training brings it to the same scores.
    ///
    /// # Errors
    /// [`StateError::OtherTraining`] if they are of a version that trains differently; or if the
    /// disk fails.
    pub(super) fn check_checkpoints(&self) -> anyhow::Result<()> {
        let mut lost: Vec<(usize, ResumeError)> = Vec::new();
        for trial in halving::in_play(&self.state.scores(), self.state.rungs.len()) {
            let Some(bytes) = self.folder.checkpoint(trial)? else {
                continue;
            };
            let hyperparameters = &self.state.trials[trial].hyperparameters;
            let tag = self.tag(trial);
            let checked = self.data.check_checkpoint(hyperparameters, &tag, &bytes);
            match checked {
                Ok(()) => {}
                Err(error) if error.is_other_training() => {
                    let path = self.folder.checkpoint_path(trial);
                    return Err(self.other_training(path, error.to_string()).into());
                }
                Err(error) => lost.push((trial, error)),
            }
        }
        if let Some((_, why)) = lost.first() {
            let trials: Vec<String> = lost.iter().map(|(trial, _)| trial.to_string()).collect();
            tracing::warn!(
                "checkpoints cannot be gone on from ({why}): these trials begin again and come to the same scores: {}",
                trials.join(", ")
            );
        }
        lost.iter()
            .try_for_each(|&(trial, _)| self.folder.drop_checkpoint(trial))
    }

    fn other_training(&self, path: PathBuf, reason: String) -> StateError {
        StateError::OtherTraining {
            path,
            begun_by: self.state.version.as_ref().map_or_else(
                || "an earlier one".to_owned(),
                |version| format!("version {version}"),
            ),
            reason,
            // There is a result to keep as soon as a trial has been scored.
            keep: match halving::winner(&self.state.scores()) {
                Some(_) => "; --resume --budget 0s writes the best of them as it is",
                None => "",
            },
        }
    }
}
