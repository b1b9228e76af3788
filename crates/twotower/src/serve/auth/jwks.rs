use super::config::{ConfigError, JwksSource};
use super::key::{Expected, Key};
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

/// More keys than this are no set of an issuer but an attempt to make us work.
const MAX_KEYS: usize = 32;
const MAX_BYTES: u64 = 256 * 1024;
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// An unknown key id makes us ask again, but no more often than this.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_mins(1);

/// Keys are asked for again after this time, so that one that its issuer has withdrawn is forgotten.
const MAX_AGE: Duration = Duration::from_mins(10);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// Reads the usable keys of a set. A key of another kind is passed over: sets hold what other services need, too.
pub(super) fn parse(
    json: &str,
    symmetric: bool,
    expected: &Expected,
) -> Result<Vec<Key>, ConfigError> {
    let set: Set =
        serde_json::from_str(json).map_err(|error| ConfigError::Unreadable(error.to_string()))?;
    let keys: Vec<Key> = set
        .keys
        .into_iter()
        .take(MAX_KEYS)
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
        .filter_map(|jwk| Key::from_jwk(&jwk, symmetric, expected))
        .collect();
    if keys.is_empty() {
        return Err(ConfigError::NoUsableKey);
    }
    Ok(keys)
}

/// Public keys at an address, kept in memory.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    url: String,
    expected: Expected,
    keys: watch::Sender<Arc<[Key]>>,
    /// Times of the last attempt and of the last success; held while fetching, so that one request at a time asks.
    fetched: Mutex<Fetched>,
}

#[derive(Debug, Default)]
struct Fetched {
    attempt: Option<Instant>,
    success: Option<Instant>,
}

impl Fetched {
    fn due(&self, unknown: bool) -> bool {
        let age = |at: Option<Instant>| at.map(|at| at.elapsed());
        let wanted = unknown || age(self.success).is_none_or(|age| age >= MAX_AGE);
        wanted && age(self.attempt).is_none_or(|age| age >= MIN_REFRESH_INTERVAL)
    }
}

impl RemoteKeys {
    pub(super) fn new(url: String, expected: Expected) -> Self {
        Self {
            url,
            expected,
            keys: watch::Sender::new(Arc::from([])),
            fetched: Mutex::default(),
        }
    }

    /// The keys held now.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys.borrow().clone()
    }

    /// Fetches in the background if the keys have grown old; requests go on with those held.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        if self.fetched.try_lock().is_ok_and(|it| it.due(false)) {
            let keys = Arc::clone(self);
            tokio::spawn(async move { keys.refresh(false).await });
        }
    }

    /// Fetches if keys are too old, or if `unknown` (a token names a key that is not held), and not too often. Keeps the
    /// old keys if that fails.
    pub(super) async fn refresh(&self, unknown: bool) {
        let mut fetched = self.fetched.lock().await;
        if !fetched.due(unknown) {
            return;
        }
        fetched.attempt = Some(Instant::now());
        let url = self.url.clone();
        let body = tokio::task::spawn_blocking(move || fetch(&url)).await;
        let keys = match body {
            Ok(Ok(json)) => parse(&json, false, &self.expected),
            Ok(Err(error)) => Err(ConfigError::Unreadable(error.to_string())),
            Err(error) => Err(ConfigError::Unreadable(error.to_string())),
        };
        match keys {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "fetched the JWKS");
                self.keys.send_replace(keys.into());
                fetched.success = fetched.attempt;
            }
            Err(error) => tracing::warn!(%error, "the JWKS could not be fetched; keeping the keys"),
        }
    }
}

/// Redirects are not followed: the address is configuration, and where it points to must not be able to change it.
fn fetch(url: &str) -> Result<String, ureq::Error> {
    ureq::Agent::config_builder()
        .timeout_global(Some(FETCH_DEADLINE))
        .max_redirects(0)
        .build()
        .new_agent()
        .get(url)
        .call()?
        .body_mut()
        .with_config()
        .limit(MAX_BYTES)
        .read_to_string()
}

/// Keys of a source that is read once.
pub(super) fn read(source: &JwksSource, expected: &Expected) -> Result<Vec<Key>, ConfigError> {
    match source {
        JwksSource::Url(_) => Ok(Vec::new()),
        JwksSource::Inline(json) => parse(json, true, expected),
        JwksSource::File(path) => {
            let json = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable(format!("{}: {error}", path.display())))?;
            parse(&json, true, expected)
        }
    }
}
