use super::config::{Config, ConfigError, JwksSource};
use super::jwks::{self, RemoteKeys};
use super::key::{Claims, Expected, Key, SessionKey};
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Header, decode, decode_header};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// Longer tokens are refused before anything of them is decoded.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_KEY_ID_BYTES: usize = 256;

/// A caller whose token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub user: Uuid,
}

/// Why a caller is not let in. Callers are told none of it; the log holds the reason without the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AuthError {
    #[error("no Authorization header")]
    Missing,
    #[error("the Authorization header is not one `Bearer <token>`")]
    Scheme,
    #[error("the token is longer than 8 KiB")]
    TooLong,
    #[error("the token's header cannot be read or asks for what is not supported")]
    Header,
    #[error("no key accepts the token")]
    Refused,
    #[error("the token's sub is no user id")]
    Subject,
    #[error("no public key could be fetched yet")]
    NoKeysYet,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    keys: Vec<Key>,
    remote: Option<Arc<RemoteKeys>>,
}

impl Authenticator {
    /// Reads the keys that `config` names; those at an address are fetched by [`Self::warm_up`] or on first use.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no key at all, or a set cannot be used.
    pub(crate) fn new(config: &Config, session: Option<&SessionKey>) -> Result<Self, ConfigError> {
        let expected = Expected {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        };
        let mut keys: Vec<Key> = session.map(SessionKey::verifying).into_iter().collect();
        keys.extend(
            config
                .secret
                .as_ref()
                .map(|secret| Key::from_secret(secret, &expected)),
        );
        let mut remote = None;
        if let Some(source) = &config.jwks {
            keys.extend(jwks::read(source, &expected)?);
            if let JwksSource::Url(url) = source {
                remote = Some(Arc::new(RemoteKeys::new(url.clone(), expected)));
            }
        }
        if keys.is_empty() && remote.is_none() {
            return Err(ConfigError::NoKey);
        }
        Ok(Self { keys, remote })
    }

    /// Fetches public keys ahead of the first request.
    pub(crate) async fn warm_up(&self) {
        if let Some(remote) = &self.remote {
            remote.refresh(false).await;
        }
    }

    /// Whether some token could be verified now.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.remote.as_ref().is_some_and(|r| !r.keys().is_empty())
    }

    /// The caller that the request's `Authorization` header names.
    ///
    /// # Errors
    /// [`AuthError`]
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let token = bearer(headers)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        let header = decode_header(token).map_err(|_| AuthError::Header)?;
        if !supported(&header) {
            return Err(AuthError::Header);
        }
        match verify(&self.keys, &header, token) {
            Err(AuthError::Refused) => self.verify_remotely(&header, token).await,
            outcome => outcome,
        }
    }

    async fn verify_remotely(&self, header: &Header, token: &str) -> Result<Identity, AuthError> {
        let Some(remote) = &self.remote else {
            return Err(AuthError::Refused);
        };
        let keys = remote.keys();
        let known = !keys.is_empty()
            && (header.kid.is_none() || keys.iter().any(|key| key.id == header.kid));
        if known {
            remote.keep_fresh();
            return verify(&keys, header, token);
        }
        remote.refresh(true).await;
        let keys = remote.keys();
        if keys.is_empty() {
            return Err(AuthError::NoKeysYet);
        }
        verify(&keys, header, token)
    }
}

/// The token of exactly one header `Authorization: Bearer <token>`.
fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Scheme);
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(AuthError::Scheme)?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ') {
        Ok(token)
    } else {
        Err(AuthError::Scheme)
    }
}

/// Keys and addresses inside a token's header (`jwk`, `jku`, `x5u`, …) are not read, and a token that brings any, or
/// that marks an extension as critical, is none of our issuer's.
fn supported(header: &Header) -> bool {
    header.crit.is_none()
        && header.jwk.is_none()
        && header.jku.is_none()
        && header.x5u.is_none()
        && header.x5c.is_none()
        && header.enc.is_none()
        && header.zip.is_none()
        && header
            .kid
            .as_ref()
            .is_none_or(|id| id.len() <= MAX_KEY_ID_BYTES)
}

/// Tries each key that the token's key id does not rule out, each with its own algorithm.
fn verify(keys: &[Key], header: &Header, token: &str) -> Result<Identity, AuthError> {
    let candidates = keys
        .iter()
        .filter(|key| key.id.is_none() || header.kid.is_none() || key.id == header.kid);
    for key in candidates {
        if let Ok(data) = decode::<Claims>(token, &key.decoding, &key.validation) {
            return subject(&data.claims.sub);
        }
    }
    Err(AuthError::Refused)
}

/// A UUID in its usual form, and not the one that stands for nobody.
fn subject(sub: &str) -> Result<Identity, AuthError> {
    match Uuid::try_parse(sub) {
        Ok(user) if sub.len() == 36 && !user.is_nil() => Ok(Identity { user }),
        _ => Err(AuthError::Subject),
    }
}
