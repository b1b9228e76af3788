use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Least bytes of a secret of HS256: as many as its hash has (RFC 7518, section 3.2).
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// A shared secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes of `text` without white space around them.
    ///
    /// # Errors
    /// [`ConfigError::ShortSecret`] below 32 bytes.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let bytes = text.trim().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(ConfigError::ShortSecret { bytes: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Where public keys come from.
#[derive(Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// Fetched, kept in memory, and fetched again for an unknown key.
    Url(String),
    /// Read at start, and again whenever it has changed.
    File(PathBuf),
    /// The JSON itself.
    Inline(String),
}

impl JwksSource {
    /// Distinguishes an address, JSON and a path.
    ///
    /// # Errors
    /// [`ConfigError::InsecureJwks`] for an `http://` address of another machine.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        if text.starts_with('{') {
            Ok(Self::Inline(text.into()))
        } else if text.starts_with("https://") || is_loopback_http(text) {
            Ok(Self::Url(text.into()))
        } else if text.contains("://") {
            Err(ConfigError::InsecureJwks)
        } else {
            Ok(Self::File(text.into()))
        }
    }
}

/// Shows only the kind: an inline set may contain symmetric keys, and an address a password.
impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url(redacted)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(_) => f.write_str("Inline(redacted)"),
        }
    }
}

fn is_loopback_http(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

/// Keys and claims that tokens are checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Shared secret of HS256 tokens.
    pub secret: Option<Secret>,
    /// Public keys of ES256, RS256 and `EdDSA` tokens.
    pub jwks: Option<JwksSource>,
    /// The `iss` that a token must carry.
    pub issuer: Option<String>,
    /// The `aud` that a token must carry.
    pub audience: String,
    /// How often keys are refreshed.
    pub refresh: Refresh,
}

/// How often keys are refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// Shortest time between two fetches: a token with an unknown key id causes a fetch, but no
    /// more often than this.
    pub min_interval: Duration,
    /// Keys are fetched again after this time, so that a key is forgotten that its issuer has
    /// withdrawn.
    pub max_age: Duration,
    /// Deadline of one fetch.
    pub deadline: Duration,
    /// Time between two checks of a file of keys.
    pub file_interval: Duration,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_mins(1),
            max_age: Duration::from_mins(10),
            deadline: Duration::from_secs(5),
            file_interval: Duration::from_secs(5),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            secret: None,
            jwks: None,
            issuer: None,
            audience: "authenticated".into(),
            refresh: Refresh::default(),
        }
    }
}

/// Settings that would admit anybody, or nobody.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Too few bytes to withstand guessing.
    #[error("the JWT secret has {bytes} bytes; HS256 needs at least 32")]
    ShortSecret {
        /// How many it has.
        bytes: usize,
    },
    /// The address is not encrypted, so anybody on the network path could replace the keys.
    #[error("--jwks must be an https:// address, a file, or the JSON itself")]
    InsecureJwks,
    /// The set cannot be read.
    #[error("read the JWKS: {0}")]
    Unreadable(String),
    /// The set has no key that tokens can be verified with.
    #[error(
        "the JWKS holds no usable key: ES256 (P-256), RS256 (2048 to 4096 bits) or EdDSA (Ed25519) with `use` absent or `sig`"
    )]
    NoUsableKey,
    /// There is no key, so no token could ever be accepted.
    #[error(
        "no key to verify tokens with: set TWOTOWER_JWT_SECRET or SUPABASE_JWT_SECRET, or give --jwt-secret-file or --jwks"
    )]
    NoKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let text = "canary-canary-canary-canary-canary";
        let config = Config {
            secret: Some(Secret::new(text).unwrap()),
            jwks: Some(JwksSource::parse(&format!("{{\"{text}\":1}}")).unwrap()),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("canary"), "{config:?}");
        assert!(Secret::new("short").is_err());
    }

    #[test]
    fn only_trustworthy_sources_of_keys() {
        let kind = |text: &str| JwksSource::parse(text);
        assert!(matches!(
            kind("https://a.example/jwks"),
            Ok(JwksSource::Url(_))
        ));
        assert!(matches!(
            kind("http://127.0.0.1:9/jwks"),
            Ok(JwksSource::Url(_))
        ));
        assert!(matches!(kind("keys/jwks.json"), Ok(JwksSource::File(_))));
        assert!(matches!(kind(" {\"keys\":[]}"), Ok(JwksSource::Inline(_))));
        for bad in [
            "http://a.example/jwks",
            "http://localhost@a.example/jwks",
            "http://localhost.a.example/jwks",
            "ftp://a.example/jwks",
        ] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }
}
