use super::config::ConfigError;
use super::jwks::{Parsed, parse, tell_of};
use super::key::{Expected, Key, Unsound};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The keys of a file, read again when it has changed: a key is added, and another one taken away, without a restart.
///
/// What stands there is compared, and not when it was written: a Secret that Kubernetes mounts is switched by a link, and two writes within a second
/// may bear the same time.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    expected: Expected,
    pace: Duration,
    keys: watch::Sender<Arc<[Key]>>,
    seen: Mutex<Seen>,
}

/// What the last look has found.
#[derive(Debug)]
struct Seen {
    content: Content,
    unsound: Vec<Unsound>,
}

/// Told of when it changes, and not at each look.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// SHA-256 of it: it may hold secrets.
    Text([u8; 32]),
    /// Why there is none.
    None(String),
}

impl KeyFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, or holds no usable key.
    pub(super) fn open(
        path: PathBuf,
        expected: Expected,
        pace: Duration,
    ) -> Result<Self, ConfigError> {
        let text = text_of(&path)?;
        let Parsed { keys, unsound } = parse(&text, true, &expected)?;
        tell_of(&unsound, &[]);
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

    /// The keys held now.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys.borrow().clone()
    }

    /// Looks at the file again and again, for as long as somebody holds its keys. A pipe is read once: what came through it does not come again.
    pub(super) async fn keep_fresh(keys: Weak<Self>) {
        while let Some(pace) = keys.upgrade().map(|keys| keys.pace) {
            tokio::time::sleep(pace).await;
            let Some(held) = keys.upgrade() else { return };
            // A file system may hang. It holds up a thread of its own then, for which nobody waits when the server ends.
            let (looked, look) = oneshot::channel();
            let thread = thread::Builder::new().name("key file".to_owned());
            let started = thread.spawn(move || {
                if !is_pipe(&held.path) {
                    held.look();
                }
                let _ = looked.send(());
            });
            match started {
                Ok(_) => {
                    let _ = look.await;
                }
                Err(error) => tracing::error!("the file of keys could not be looked at: {error}"),
            }
        }
    }

    /// Keeps the old keys if the file cannot be read, as half of one cannot; a set without a usable key takes them away, as at an address.
    fn look(&self) {
        let text = text_of(&self.path);
        let content = match &text {
            Ok(text) => Content::of(text),
            Err(error) => Content::None(error.to_string()),
        };
        // Values of which none depends on another.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.content == content {
            return;
        }
        seen.content = content;
        match text.and_then(|text| parse(&text, true, &self.expected)) {
            Ok(Parsed { keys, unsound }) => {
                tell_of(&unsound, &seen.unsound);
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

/// Whether reading it would wait for somebody who writes.
fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}
