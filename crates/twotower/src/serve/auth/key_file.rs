use super::config::ConfigError;
use super::jwks::{Parsed, log_unsound, parse};
use super::key::{Expected, Key, Unsound};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The keys of a file, read again whenever it has changed, so that keys are added and removed
/// without a restart.
///
/// The content is compared and not the time of the last change: a mounted Kubernetes Secret is
/// replaced by switching a link, and two writes within a second may have the same time.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    expected: Expected,
    pace: Duration,
    keys: watch::Sender<Arc<[Key]>>,
    seen: Mutex<Seen>,
}

/// Result of the last check.
#[derive(Debug)]
struct Seen {
    content: Content,
    unsound: Vec<Unsound>,
}

/// What a check compares: the log says something only when this changes.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// SHA-256 of the text, which may contain secrets.
    Text([u8; 32]),
    /// Why it could not be read.
    None(String),
}

impl KeyFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read or has no usable key.
    pub(super) fn open(
        path: PathBuf,
        expected: Expected,
        pace: Duration,
    ) -> Result<Self, ConfigError> {
        let text = text_of(&path)?;
        let Parsed { keys, unsound } = parse(&text, true, &expected)?;
        log_unsound(&unsound, &[]);
        if keys.is_empty() {
            return Err(ConfigError::NoUsableKey);
        }
        Ok(Self {
            path,
            expected,
            pace,
            keys: watch::Sender::new(keys.into()),
            seen: Mutex::new(Seen {
                content: Content::of(&text),
                unsound,
            }),
        })
    }

    /// The current keys.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys.borrow().clone()
    }

    /// Checks the file periodically, until its keys are dropped. A pipe is read only once, at
    /// start, since its content does not come again.
    pub(super) async fn keep_fresh(keys: Weak<Self>) {
        while let Some(pace) = keys.upgrade().map(|keys| keys.pace) {
            tokio::time::sleep(pace).await;
            let Some(held) = keys.upgrade() else { return };
            // A file system may hang. It then blocks only this thread, which the server does not
            // wait for at its end.
            let (checked, check) = oneshot::channel();
            let thread = thread::Builder::new().name("key file".to_owned());
            let started = thread.spawn(move || {
                if !is_pipe(&held.path) {
                    held.check();
                }
                let _ = checked.send(());
            });
            match started {
                Ok(_) => {
                    let _ = check.await;
                }
                Err(error) => tracing::error!("the file of keys could not be looked at: {error}"),
            }
        }
    }

    /// Keeps the old keys if the file cannot be read, for example because it is half written. A set
    /// without a usable key removes them, as at an address.
    fn check(&self) {
        let text = text_of(&self.path);
        let content = match &text {
            Ok(text) => Content::of(text),
            Err(error) => Content::None(error.to_string()),
        };
        // No field depends on another.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.content == content {
            return;
        }
        seen.content = content;
        match text.and_then(|text| parse(&text, true, &self.expected)) {
            Ok(Parsed { keys, unsound }) => {
                log_unsound(&unsound, &seen.unsound);
                seen.unsound = unsound;
                if keys.is_empty() {
                    let error = ConfigError::NoUsableKey;
                    tracing::error!(%error, "no token that a key of the file verified is accepted any more");
                } else {
                    tracing::info!(keys = keys.len(), "read the file of keys again");
                }
                self.keys.send_replace(keys.into());
            }
            Err(error) => {
                tracing::error!(%error, "the file of keys has changed and cannot be used; keeping the keys");
            }
        }
    }
}

impl Content {
    fn of(text: &str) -> Self {
        Self::Text(Sha256::digest(text).into())
    }
}

fn text_of(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable(format!("{}: {error}", path.display())))
}

/// Whether a read would block until somebody writes.
fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}
