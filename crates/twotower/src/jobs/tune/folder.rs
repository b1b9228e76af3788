//! The folder of a search: its state, and a checkpoint of each trial that may continue.

use super::state::{State, StateError};
use crate::files::{read_if_there, remove_if_there, write_whole};
use anyhow::Context;
use std::fs;
use std::io;
use std::path::PathBuf;

const STATE: &str = "state.json";

/// The folder in which a search keeps its state.
#[derive(Debug, Clone)]
pub(super) struct StateFolder(pub(super) PathBuf);

impl StateFolder {
    /// The state to begin with: `fresh`, or with `resume` the stored one.
    ///
    /// # Errors
    /// If the stored state cannot be read, or is of another search and `resume` is set.
    pub(super) fn begin(&self, fresh: State, resume: bool) -> anyhow::Result<State> {
        let stored = if resume { self.load()? } else { None };
        let Some(stored) = stored else {
            self.clear()?;
            return Ok(fresh);
        };
        stored.check_same(&fresh, self.state_path())?;
        if stored.is_drawn_otherwise(&fresh) {
            tracing::warn!(
                "the version of twotower that began this search had another search space: it goes on with the trials that were drawn from that one"
            );
        }
        Ok(stored)
    }

    fn load(&self) -> anyhow::Result<Option<State>> {
        let path = self.state_path();
        let bytes = read_if_there(&path).with_context(|| format!("read {}", path.display()))?;
        let state = bytes
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose();
        Ok(state.map_err(|cause| StateError::Unreadable { path, cause })?)
    }

    /// Replaces the stored state.
    pub(super) fn save(&self, state: &State) -> anyhow::Result<()> {
        let path = self.state_path();
        write_whole(&path, &serde_json::to_vec_pretty(state)?)
            .with_context(|| format!("write {}", path.display()))
    }

    /// The checkpoint of `trial`, if there is one.
    pub(super) fn checkpoint(&self, trial: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.checkpoint_path(trial);
        read_if_there(&path).with_context(|| format!("read checkpoint {}", path.display()))
    }

    /// Replaces the checkpoint of `trial`.
    pub(super) fn save_checkpoint(&self, trial: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.checkpoint_path(trial);
        write_whole(&path, bytes).with_context(|| format!("write checkpoint {}", path.display()))
    }

    /// Removes the checkpoint of `trial`.
    pub(super) fn drop_checkpoint(&self, trial: usize) -> anyhow::Result<()> {
        let path = self.checkpoint_path(trial);
        remove_if_there(&path).with_context(|| format!("remove checkpoint {}", path.display()))
    }

    pub(super) fn checkpoint_path(&self, trial: usize) -> PathBuf {
        self.0.join(format!("trial-{trial}.safetensors"))
    }

    pub(super) fn state_path(&self) -> PathBuf {
        self.0.join(STATE)
    }

    /// Removes the files of another search, and no other files.
    fn clear(&self) -> anyhow::Result<()> {
        let removed = || -> io::Result<()> {
            remove_if_there(&self.state_path())?;
            let entries = match fs::read_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                let number = path
                    .file_name()
                    .and_then(|name| {
                        name.to_str()?
                            .strip_prefix("trial-")?
                            .strip_suffix(".safetensors")
                    })
                    .and_then(|number| number.parse::<usize>().ok());
                if number.is_some() {
                    remove_if_there(&path)?;
                }
            }
            Ok(())
        };
        removed().with_context(|| format!("remove the search before from {}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Plan;
    use super::*;
    use twotower_core::hyperparameters::Hyperparameters;
    use twotower_core::split::SplitKind;

    fn plan(seed: u64) -> Plan {
        Plan {
            snapshot_sha256: "0123".into(),
            split: SplitKind::Llo,
            seed,
            trials: 3,
            base: Hyperparameters::default(),
        }
    }

    #[test]
    fn a_search_is_resumed_or_started_over() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = StateFolder(temporary.path().join("tune"));
        let fresh = || State::new(&plan(1));
        let mut state = folder.begin(fresh(), true).unwrap();
        assert_eq!(state, fresh(), "nothing to resume is a beginning");
        state.used_s = 7.5;
        // As if another version had drawn it.
        state.trials[2].hyperparameters.lookahead = 3;
        folder.save(&state).unwrap();
        folder.save_checkpoint(2, b"weights").unwrap();
        fs::write(folder.0.join("notes.txt"), "mine").unwrap();

        assert_eq!(folder.begin(fresh(), true).unwrap(), state);
        assert_eq!(folder.checkpoint(2).unwrap().unwrap(), b"weights");
        let other = folder.begin(State::new(&plan(2)), true);
        assert!(other.unwrap_err().to_string().contains("seed differs"));
        assert_eq!(folder.checkpoint(2).unwrap().unwrap(), b"weights");

        assert_eq!(folder.begin(fresh(), false).unwrap(), fresh());
        assert_eq!(folder.checkpoint(2).unwrap(), None);
        assert!(folder.0.join("notes.txt").exists());

        fs::write(folder.state_path(), "{").unwrap();
        let error = folder.begin(fresh(), true).unwrap_err().to_string();
        assert!(error.contains("state.json does not say where"), "{error}");
    }
}
