//! The file of what was told to whom, and the lock that keeps two rounds from telling the same.

use super::state::{Alert, State};
use crate::jobs::file::{read_if_there, write_whole};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the file.
const FORMAT: u32 = 1;

/// Longest wait for another round, which takes twenty seconds where every channel hangs.
const PATIENCE: Duration = Duration::from_mins(1);

const SLICE: Duration = Duration::from_millis(50);

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    alerts: Vec<Alert>,
}

/// `alerts.json` in a folder.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// In the folder of state.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("alerts.json")
    }

    /// What is written there. A file that is damaged or of another version counts as none, which the log says: everything that is wrong
    /// is told again then, and that is better than silence.
    pub(super) fn load(&self) -> State {
        let path = self.path();
        let read = read_if_there(&path).with_context(|| format!("read {}", path.display()));
        let parsed = read.and_then(|bytes| {
            let Some(bytes) = bytes else {
                return Ok(State::default());
            };
            let stored: Stored = serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged", path.display()))?;
            anyhow::ensure!(
                stored.version == FORMAT,
                "{} has format {}, and this version of twotower knows {FORMAT}",
                path.display(),
                stored.version
            );
            Ok(State {
                alerts: stored.alerts,
            })
        });
        parsed.unwrap_or_else(|error| {
            tracing::warn!("{error:#}: starting afresh, so that what was told is told again");
            State::default()
        })
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If that is not possible: the disk is full, the folder is somebody else's.
    pub(super) fn save(&self, state: &State) -> anyhow::Result<()> {
        let stored = Stored {
            version: FORMAT,
            alerts: state.alerts.clone(),
        };
        let path = self.path();
        let bytes = serde_json::to_vec_pretty(&stored)?;
        write_whole(&path, &bytes).with_context(|| format!("write {}", path.display()))
    }

    /// Keeps other rounds out until what it returns is dropped; waits for one that is at work. Where no lock can be had (a full disk, some
    /// network file systems) it keeps nobody out: that somebody is told twice is better than that nobody is told.
    ///
    /// # Errors
    /// If the other one takes too long.
    pub(super) async fn lock(&self) -> anyhow::Result<Option<File>> {
        let path = self.folder.join("alerts.lock");
        let opened = fs::create_dir_all(&self.folder).and_then(|()| File::create(&path));
        let file = match opened {
            Ok(file) => file,
            Err(error) => return Ok(unlocked(&path, &error)),
        };
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(error)) => return Ok(unlocked(&path, &error)),
                Err(TryLockError::WouldBlock) => {}
            }
            anyhow::ensure!(
                waited < PATIENCE,
                "another process has been telling alerts for more than {} s (it holds {}): nothing was told by this one",
                PATIENCE.as_secs(),
                path.display()
            );
            tokio::time::sleep(SLICE).await;
            waited += SLICE;
        }
    }
}

fn unlocked(path: &Path, error: &io::Error) -> Option<File> {
    tracing::warn!(
        "{} cannot be locked ({error}): another round at the same time would tell the same",
        path.display()
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::operations::alert::state::Patience;
    use crate::operations::check::{CATALOGUE, Finding, Verdict};

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&folder.path().join("state"));
        assert_eq!(ledger.load(), State::default());
        let mut state = State::default();
        let finding = Finding {
            check: "clock",
            subject: None,
            verdict: Verdict::Failed,
            evidence: "3 s".into(),
            fix: String::new(),
        };
        let patience = Patience::from(&config::Alerts::default());
        state.observe(CATALOGUE, &[finding], 1, &patience);
        ledger.save(&state).unwrap();
        assert_eq!(ledger.load(), state);
        let path = folder.path().join("state/alerts.json");
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        for damaged in [&text[..text.len() / 2], &newer[..]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(ledger.load(), State::default());
        }
    }
}
