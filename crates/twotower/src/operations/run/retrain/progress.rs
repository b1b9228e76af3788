//! The progress of a retraining, in a file, so that a killed run is resumed.

use crate::files::{read_if_there, remove_if_there, write_whole};
use crate::operations::run::error::RunError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, io};
use twotower_core::time::DAY_US;

/// Progress older than this is not resumed: its data are old, so the retraining starts over.
const LIFETIME_US: i64 = DAY_US;

/// A step of a retraining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    /// Train a model into a folder.
    Train,
    /// Load its vectors into the database, invisible to readers, and run the quality gate.
    Load,
    /// Upload its folder to the storage.
    Publish,
    /// Switch readers to it.
    Promote,
    /// Remove what is not needed.
    Prune,
    /// Write a report on the model, which nothing waits for.
    Evaluate,
}

impl Step {
    /// All steps, in order.
    pub(super) const ALL: [Self; 6] = [
        Self::Train,
        Self::Load,
        Self::Publish,
        Self::Promote,
        Self::Prune,
        Self::Evaluate,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Load => "load",
            Self::Publish => "publish",
            Self::Promote => "promote",
            Self::Prune => "prune",
        })
    }
}

/// Progress of a retraining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Time of writing, microseconds since 1970.
    pub(super) at_us: i64,
    pub(super) fine_tune: bool,
    /// The newest model folder before training began: a newer one is the result of the training.
    pub(super) newest_before: Option<i64>,
    /// Version of the model, once it is trained.
    pub(super) version: Option<i64>,
    pub(super) done: Vec<Step>,
}

/// Path of the progress file.
pub(super) struct ProgressFile(PathBuf);

impl ProgressFile {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("retrain.json"))
    }

    /// The saved progress, if it is of the same kind of training and recent enough to resume.
    pub(super) fn load(&self, fine_tune: bool, now_us: i64) -> Result<Option<Progress>, RunError> {
        let progress = self.read().map_err(|cause| self.error(cause))?;
        Ok(progress.filter(|progress| {
            progress.fine_tune == fine_tune
                && (0..=LIFETIME_US).contains(&now_us.saturating_sub(progress.at_us))
        }))
    }

    /// The saved progress of whatever kind and age.
    pub(super) fn read(&self) -> io::Result<Option<Progress>> {
        let bytes = read_if_there(&self.0)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) fn save(&self, progress: &Progress) -> Result<(), RunError> {
        serde_json::to_vec(progress)
            .map_err(io::Error::from)
            .and_then(|bytes| write_whole(&self.0, &bytes))
            .map_err(|cause| self.error(cause))
    }

    pub(super) fn remove(&self) -> Result<(), RunError> {
        remove_if_there(&self.0).map_err(|cause| self.error(cause))
    }

    fn error(&self, cause: io::Error) -> RunError {
        RunError::Progress {
            path: self.0.clone(),
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_gone_on_with_for_a_day_and_by_the_same_kind() {
        let folder = tempfile::tempdir().unwrap();
        let file = ProgressFile::new(&folder.path().join("state"));
        assert_eq!(file.load(false, 7).unwrap(), None);
        let progress = Progress {
            at_us: 7,
            fine_tune: false,
            newest_before: None,
            version: Some(3),
            done: vec![Step::Train, Step::Load],
        };
        file.save(&progress).unwrap();
        assert_eq!(file.load(false, 7 + LIFETIME_US).unwrap(), Some(progress));
        for (fine_tune, now_us) in [(false, 8 + LIFETIME_US), (true, 8), (false, 6)] {
            assert_eq!(file.load(fine_tune, now_us).unwrap(), None);
        }
        file.remove().unwrap();
        assert_eq!(file.load(false, 7).unwrap(), None);
    }
}
