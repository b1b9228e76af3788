//! The file that holds the state of alerts, and the lock that keeps two rounds from sending the
//! same messages.

use super::state::{Alert, State};
use crate::files::{read_if_there, write_whole};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Limit of waiting for another round; one takes twenty seconds if every channel hangs.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

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
    /// The ledger in the state folder `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("alerts.json")
    }

    /// Reads the state. A file that is damaged or of another version counts as empty, which is
    /// logged: every failure is alerted again then, which is better than silence.
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

    /// Writes the state atomically.
    ///
    /// # Errors
    /// If the state cannot be written, for example because the disk is full or the folder belongs
    /// to another user.
    pub(super) fn save(&self, state: &State) -> anyhow::Result<()> {
        let stored = Stored {
            version: FORMAT,
            alerts: state.alerts.clone(),
        };
        let path = self.path();
        let bytes = serde_json::to_vec_pretty(&stored)?;
        write_whole(&path, &bytes).with_context(|| format!("write {}", path.display()))
    }

    /// Locks out other rounds until the returned file is dropped; waits for a round that holds the
    /// lock. Where no lock is available (a full disk, some network file systems) it goes on
    /// without: a message sent twice is better than one never sent.
    ///
    /// # Errors
    /// If another round holds the lock for too long.
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
                waited < LOCK_TIMEOUT,
                "another process has been telling alerts for more than {} s (it holds {}): nothing was told by this one",
                LOCK_TIMEOUT.as_secs(),
                path.display()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
            waited += POLL_INTERVAL;
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
    use crate::operations::alert::state::Timing;
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
        let timing = Timing::from(&config::Alerts::default());
        state.observe(CATALOGUE, &[finding], 1, &timing);
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
