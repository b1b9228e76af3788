use super::config::{ConfigError, Refresh};
use super::key::{Expected, Key, PassedOver, Unsound};
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Most keys read of a set. No issuer has more; a set that does is an attempt to waste our time.
const MAX_KEYS: usize = 32;
const MAX_BYTES: u64 = 256 * 1024;

/// Most requests that wait for a fetch at once, and how long each waits. Each occupies a place
/// among the requests in flight.
const MAX_WAITING: usize = 2;
const MAX_WAIT: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys of a set that concern us.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The usable keys, possibly none.
    pub(super) keys: Vec<Key>,
    /// Unusable keys that the issuer may believe to be usable.
    pub(super) unsound: Vec<Unsound>,
}

/// Reads a set. Keys of other kinds are ignored: sets also contain keys for other services.
pub(super) fn parse(
    json: &str,
    symmetric: bool,
    expected: &Expected,
) -> Result<Parsed, ConfigError> {
    let set: Set = serde_json::from_str(json).map_err(|error| unreadable(&error))?;
    let jwks = set
        .keys
        .into_iter()
        .take(MAX_KEYS)
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let mut parsed = Parsed::default();
    for jwk in jwks {
        match Key::from_jwk(&jwk, symmetric, expected) {
            Ok(key) => parsed.keys.push(key),
            Err(PassedOver::Unsound(key)) => parsed.unsound.push(key),
            Err(PassedOver::Foreign) => {}
        }
    }
    Ok(parsed)
}

/// Logs unusable keys, except those that were logged `before`.
pub(super) fn log_unsound(unsound: &[Unsound], before: &[Unsound]) {
    for key in unsound.iter().filter(|key| !before.contains(key)) {
        let Unsound { id, kind, asked } = key;
        let kid = id.as_deref().unwrap_or_default();
        tracing::warn!(
            ?kid,
            kind,
            "a key of the JWKS is passed over, and no token that it signs is accepted: it has to be {asked}"
        );
    }
}

/// Where a set is malformed. The text is not repeated: it may be a secret, and of any length.
fn unreadable(error: &serde_json::Error) -> ConfigError {
    let what = match error.classify() {
        Category::Data => "it is no object with a list `keys`",
        _ => "it is not valid JSON",
    };
    let (line, column) = (error.line(), error.column());
    ConfigError::Unreadable(format!("{what} (line {line}, column {column})"))
}

/// Public keys at an address, kept in memory.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    url: String,
    expected: Expected,
    pace: Refresh,
    keys: watch::Sender<Arc<[Key]>>,
    fetches: Mutex<Fetches>,
    /// Number of fetches that have ended, successful or not.
    ended: watch::Sender<u64>,
    /// Places for requests that wait for a fetch.
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct Fetches {
    attempt: Option<Instant>,
    success: Option<Instant>,
    under_way: bool,
    /// Unusable keys of the latest set.
    unsound: Vec<Unsound>,
}

/// Whether a fetch is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    UnderWay,
    No,
}

impl RemoteKeys {
    pub(super) fn new(url: String, expected: Expected, pace: Refresh) -> Self {
        Self {
            url,
            expected,
            pace,
            keys: watch::Sender::new(Arc::from([])),
            fetches: Mutex::default(),
            ended: watch::Sender::new(0),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// The current keys.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys.borrow().clone()
    }

    /// Whether a set was ever read, even one without a usable key.
    pub(super) fn is_read(&self) -> bool {
        self.fetches().success.is_some()
    }

    /// Fetches the keys whenever they are too old, until they are dropped. This does not depend on
    /// requests: the first request after a quiet night must not be accepted by a key that was
    /// withdrawn in the evening.
    pub(super) async fn keep_fresh(keys: Weak<Self>) {
        while let Some(held) = keys.upgrade() {
            held.refresh().await;
            let pause = held.until_old().max(held.pace.min_interval);
            drop(held);
            tokio::time::sleep(pause).await;
        }
    }

    fn until_old(&self) -> Duration {
        let success = self.fetches().success;
        let of_use = success.filter(|_| !self.is_empty());
        of_use.map_or(Duration::ZERO, |at| {
            self.pace.max_age.saturating_sub(at.elapsed())
        })
    }

    fn is_empty(&self) -> bool {
        self.keys.borrow().is_empty()
    }

    /// Fetches the keys if there are none or they are too old, and waits for the end.
    pub(super) async fn refresh(&self) {
        if self.begin(false) == Due::Now {
            self.fetch().await;
        }
    }

    /// Fetches the keys for a token with an unknown key id, within the rate limit. False if a fetch
    /// is still under way at the end: a few requests wait for it for a short time, since their
    /// issuer may have just begun to sign with a new key. All others are to be told to retry, since
    /// anybody can name a key that does not exist.
    pub(super) async fn look_for_unknown(self: &Arc<Self>) -> bool {
        // Subscribed before the fetch begins, so that its end cannot be missed.
        let mut ended = self.ended.subscribe();
        match self.begin(true) {
            Due::No => return true,
            Due::UnderWay => {}
            Due::Now => {
                // A task of its own: the caller may hang up.
                let keys = Arc::clone(self);
                tokio::spawn(async move { keys.fetch().await });
            }
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return false;
        };
        tokio::time::timeout(MAX_WAIT, ended.changed())
            .await
            .is_ok()
    }

    fn begin(&self, unknown: bool) -> Due {
        let mut fetches = self.fetches();
        if fetches.under_way {
            return Due::UnderWay;
        }
        let old = |at: Option<Instant>, age: Duration| at.is_none_or(|at| at.elapsed() >= age);
        let wanted = unknown || self.is_empty() || old(fetches.success, self.pace.max_age);
        if wanted && old(fetches.attempt, self.pace.min_interval) {
            fetches.attempt = Some(Instant::now());
            fetches.under_way = true;
            Due::Now
        } else {
            Due::No
        }
    }

    /// The fetch that [`Self::begin`] has begun. Keeps the old keys if no set can be read. A set
    /// without a usable key removes them, so that an issuer can withdraw its last key.
    async fn fetch(&self) {
        let (url, deadline, expected) =
            (self.url.clone(), self.pace.deadline, self.expected.clone());
        let fetched = tokio::task::spawn_blocking(move || {
            let json =
                get(&url, deadline).map_err(|error| ConfigError::Unreadable(error.to_string()))?;
            parse(&json, false, &expected)
        });
        let parsed = fetched
            .await
            .unwrap_or_else(|error| Err(ConfigError::Unreadable(error.to_string())));
        let mut fetches = self.fetches();
        fetches.under_way = false;
        match parsed {
            Ok(Parsed { keys, unsound }) => {
                log_unsound(&unsound, &fetches.unsound);
                fetches.unsound = unsound;
                if !keys.is_empty() {
                    tracing::info!(keys = keys.len(), "fetched the JWKS");
                } else if fetches.success.is_none() || !self.is_empty() {
                    // Logged once, and not again every minute.
                    let address = shown(&self.url);
                    let error = ConfigError::NoUsableKey;
                    tracing::error!(%address, %error, "no token that a public key verifies is accepted any more");
                }
                self.keys.send_replace(keys.into());
                fetches.success = fetches.attempt;
            }
            Err(error) => {
                let address = shown(&self.url);
                tracing::warn!(%address, %error, "the JWKS could not be fetched; keeping the keys");
            }
        }
        drop(fetches);
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn fetches(&self) -> MutexGuard<'_, Fetches> {
        // No field depends on another.
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address without its possibly secret parts: user information and query.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{place}")
}

/// Fetches a text. Redirects are not followed: the address is configuration, and its server must
/// not be able to change it.
fn get(url: &str, deadline: Duration) -> Result<String, ureq::Error> {
    ureq::Agent::config_builder()
        .timeout_global(Some(deadline))
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

/// The keys of an inline set, which never changes.
pub(super) fn read(json: &str, expected: &Expected) -> Result<Vec<Key>, ConfigError> {
    let Parsed { keys, unsound } = parse(json, true, expected)?;
    log_unsound(&unsound, &[]);
    if keys.is_empty() {
        return Err(ConfigError::NoUsableKey);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_malformed_set_is_not_repeated() {
        let expected = Expected {
            issuer: None,
            audience: "authenticated".into(),
        };
        for (json, said) in [
            (
                r#"{"keys": "canary"}"#,
                "it is no object with a list `keys` (line 1, column 17)",
            ),
            (
                "[\"canary\"",
                "it is no object with a list `keys` (line 1, column 9)",
            ),
            (
                "{\n\"keys\": canary}",
                "it is not valid JSON (line 2, column 9)",
            ),
        ] {
            let error = parse(json, true, &expected).unwrap_err().to_string();
            assert_eq!(error, format!("read the JWKS: {said}"));
        }
    }

    #[test]
    fn unusable_keys_are_described_without_their_content() {
        let expected = Expected {
            issuer: None,
            audience: "authenticated".into(),
        };
        let long = "x".repeat(100);
        // 6 and 32 bytes.
        let (short, whole) = ("Y2FuYXJ5", "A".repeat(43));
        let json = serde_json::json!({"keys": [
            {"kty": "oct", "kid": "a\nb", "k": short},
            {"kty": "OKP", "crv": "Ed25519", "kid": long, "x": short},
            {"kty": "EC", "crv": "P-256", "x": short, "y": short},
            {"kty": "RSA", "kid": "r", "n": short, "e": "AQAB"},
            {"kty": "oct", "kid": "good", "k": whole},
            {"kty": "oct", "alg": "HS512", "kid": "of others", "k": short},
            {"kty": "EC", "crv": "P-384", "x": short, "y": short},
        ]})
        .to_string();
        let told = |symmetric| {
            let Parsed { keys, unsound } = parse(&json, symmetric, &expected).unwrap();
            assert_eq!(keys.len(), usize::from(symmetric));
            assert!(!format!("{unsound:?}").contains(short), "{unsound:?}");
            let named = unsound.into_iter().map(|key| (key.id, key.kind));
            named.collect::<Vec<_>>()
        };
        let public = [
            (Some("x".repeat(64)), "OKP Ed25519"),
            (None, "EC P-256"),
            (Some("r".into()), "RSA"),
        ];
        assert_eq!(told(false), public);
        let all = told(true);
        assert_eq!(all[0], (Some("a\nb".into()), "oct"));
        assert_eq!(all[1..], public);
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for url in [
            "https://user:s3cret@issuer.example/keys",
            "https://issuer.example/keys?apikey=s3cret",
            "https://issuer.example/keys#s3cret",
            "https://user:s/3@cret@issuer.example/keys",
        ] {
            assert_eq!(shown(url), "https://issuer.example/keys", "{url}");
        }
    }
}
