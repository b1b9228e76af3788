use super::config::{Config, ConfigError, JwksSource};
use super::jwks::{self, RemoteKeys};
use super::key::{Caller, Claims, Expected, Key, SessionKey};
use super::key_file::KeyFile;
use super::verified::{TokenHash, Verified, VerifiedTokens};
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Header, decode, decode_header, get_current_timestamp};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// Longer tokens are refused before anything of them is decoded.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_KEY_ID_BYTES: usize = 256;

/// The `role` of tokens that act for the application itself, and for no user (Supabase).
const SERVICE_ROLE: &str = "service_role";

/// The user of a valid token. A token of the service role has no user, whatever its `sub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub user: Uuid,
}

/// The application itself: the bearer of a token of the service role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceIdentity;

/// Why a caller is refused. The answer does not say; the log has the reason, without the token.
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
    #[error("this address is for users, and the token is one of the service role")]
    ServiceToken,
    #[error("this address asks for a token of the service role")]
    UserToken,
    #[error("no public key could be fetched yet")]
    NoKeysYet,
    #[error("the set of public keys holds no usable key")]
    NoUsableKey,
    #[error("the token's key is not known, and the keys are being fetched")]
    KeysPending,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    /// Keys that never change.
    keys: Vec<Key>,
    changing: Option<Changing>,
    verified: VerifiedTokens,
}

/// Keys that are replaced while the server runs.
#[derive(Debug)]
enum Changing {
    At(Arc<RemoteKeys>),
    In(Arc<KeyFile>),
}

impl Changing {
    /// The current keys.
    fn keys(&self) -> Arc<[Key]> {
        match self {
            Self::At(address) => address.keys(),
            Self::In(file) => file.keys(),
        }
    }
}

impl Authenticator {
    /// Reads the keys that `config` names; those at an address are fetched by [`Self::warm_up`] or
    /// on first use.
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
        let changing = match &config.jwks {
            None => None,
            Some(JwksSource::Inline(json)) => {
                keys.extend(jwks::read(json, &expected)?);
                None
            }
            Some(JwksSource::Url(url)) => {
                let address = RemoteKeys::new(url.clone(), expected, config.refresh);
                Some(Changing::At(Arc::new(address)))
            }
            Some(JwksSource::File(path)) => {
                if config.secret.is_some() {
                    tracing::warn!(
                        "the shared secret given at the start is accepted whatever the file of keys says: to withdraw it by the file, give it there alone"
                    );
                }
                let file = KeyFile::open(path.clone(), expected, config.refresh.file_interval)?;
                Some(Changing::In(Arc::new(file)))
            }
        };
        if keys.is_empty() && changing.is_none() {
            return Err(ConfigError::NoKey);
        }
        Ok(Self {
            keys,
            changing,
            verified: VerifiedTokens::new(),
        })
    }

    /// Fetches public keys ahead of the first request, and starts the task that refreshes them or
    /// watches the file of keys.
    pub(crate) async fn warm_up(&self) {
        match &self.changing {
            None => {}
            Some(Changing::At(address)) => {
                address.refresh().await;
                tokio::spawn(RemoteKeys::keep_fresh(Arc::downgrade(address)));
            }
            Some(Changing::In(file)) => {
                tokio::spawn(KeyFile::keep_fresh(Arc::downgrade(file)));
            }
        }
    }

    /// Why no token at all can be verified now, and how to fix it; `None` if some can.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let changing = self.changing.as_ref().filter(|_| self.keys.is_empty())?;
        if !changing.keys().is_empty() {
            return None;
        }
        Some(match changing {
            Changing::At(address) if address.is_read() => {
                "the set of public keys holds no usable key, so that every token is refused: publish one (ES256, RS256 or EdDSA) at the address of \
                 --jwks, or check that address; tokens of HS256 need TWOTOWER_JWT_SECRET"
            }
            Changing::At(_) => "no public key could be fetched yet: check --jwks",
            Changing::In(_) => {
                "the file of --jwks holds no usable key, so that every token is refused: write one into it (HS256, ES256, RS256 or EdDSA); it is \
                 read again by itself"
            }
        })
    }

    /// The user of the token in the `Authorization` header.
    ///
    /// # Errors
    /// [`AuthError`], [`AuthError::ServiceToken`] for a token of the service role.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        match self.caller(headers).await? {
            Caller::User(user) => Ok(Identity { user }),
            Caller::Service => Err(AuthError::ServiceToken),
            Caller::Nobody => Err(AuthError::Subject),
        }
    }

    /// Accepts only tokens of the service role, which need no `sub`.
    ///
    /// # Errors
    /// [`AuthError`], [`AuthError::UserToken`] for a token of another role.
    pub(crate) async fn authenticate_service(
        &self,
        headers: &HeaderMap,
    ) -> Result<ServiceIdentity, AuthError> {
        match self.caller(headers).await? {
            Caller::Service => Ok(ServiceIdentity),
            Caller::User(_) | Caller::Nobody => Err(AuthError::UserToken),
        }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let token = bearer(headers)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        let hash = TokenHash::of(token);
        let held = self.changing.as_ref().map(Changing::keys);
        let now = get_current_timestamp();
        if let Some(caller) = self.verified.caller(hash, held.as_ref(), now) {
            return Ok(caller);
        }
        let (claims, keys) = self.verify(token).await?;
        let caller = caller(&claims);
        let verified = Verified {
            caller,
            expires: claims.exp.unwrap_or_default() as u64,
            keys,
        };
        self.verified.remember(hash, verified);
        Ok(caller)
    }

    /// The claims of a valid token, and the replaceable keys if one of those has verified it.
    async fn verify(&self, token: &str) -> Result<(Claims, Option<Arc<[Key]>>), AuthError> {
        let header = decode_header(token).map_err(|_| AuthError::Header)?;
        if !supported(&header) {
            return Err(AuthError::Header);
        }
        if let Ok(claims) = verify(&self.keys, &header, token) {
            return Ok((claims, None));
        }
        let (claims, keys) = match &self.changing {
            None => return Err(AuthError::Refused),
            Some(Changing::At(address)) => verify_remotely(address, &header, token).await?,
            Some(Changing::In(file)) => {
                let keys = file.keys();
                let claims = verify(&keys, &header, token)?;
                (claims, keys)
            }
        };
        Ok((claims, Some(keys)))
    }
}

async fn verify_remotely(
    remote: &Arc<RemoteKeys>,
    header: &Header,
    token: &str,
) -> Result<(Claims, Arc<[Key]>), AuthError> {
    let keys = remote.keys();
    // Before any fetch, so that a token is not refused meanwhile that a held key without an id
    // verifies.
    if let Ok(claims) = verify(&keys, header, token) {
        return Ok((claims, keys));
    }
    let is_known =
        !keys.is_empty() && (header.kid.is_none() || keys.iter().any(|key| key.id == header.kid));
    if is_known {
        return Err(AuthError::Refused);
    }
    if !remote.look_for_unknown().await {
        return Err(AuthError::KeysPending);
    }
    let keys = remote.keys();
    if keys.is_empty() {
        return Err(if remote.is_read() {
            AuthError::NoUsableKey
        } else {
            AuthError::NoKeysYet
        });
    }
    verify(&keys, header, token).map(|claims| (claims, keys))
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

/// Whether a header has only what tokens of our issuer have. Keys and addresses in a header (`jwk`,
/// `jku`, `x5u`, …) are never used, and a token with one, or with a critical extension, is refused.
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
            .is_none_or(|id| id.len() <= MAX_KEY_ID_BYTES && is_plain(id))
}

/// Whether a key id has only characters that issuers use: UUIDs, hexadecimal digits, base64 of
/// either alphabet, names and addresses. An id is only compared with those of our keys, so others,
/// such as `../`, would do no harm, but no issuer of ours writes them.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=:@#".contains(&byte);
    id.bytes().all(plain) && !id.contains("..")
}

/// Tries each key that the token's key id does not exclude, with the key's own algorithm.
pub(super) fn verify(keys: &[Key], header: &Header, token: &str) -> Result<Claims, AuthError> {
    let candidates = keys
        .iter()
        .filter(|key| key.id.is_none() || header.kid.is_none() || key.id == header.kid);
    for key in candidates {
        if let Ok(data) = decode::<Claims>(token, &key.decoding, &key.validation) {
            return Ok(data.claims);
        }
    }
    Err(AuthError::Refused)
}

/// Whom valid claims name. The `sub` of a user is a UUID in its usual form, and not nil.
fn caller(claims: &Claims) -> Caller {
    if claims.role.as_deref() == Some(SERVICE_ROLE) {
        return Caller::Service;
    }
    let sub = claims.sub.as_deref().unwrap_or_default();
    match Uuid::try_parse(sub) {
        Ok(user) if sub.len() == 36 && !user.is_nil() => Caller::User(user),
        _ => Caller::Nobody,
    }
}
