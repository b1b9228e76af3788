use super::config::Secret;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Clocks of issuer and server may differ by so many seconds.
const LEEWAY_S: u64 = 5;

/// 2048 bits in base64url without padding; a shorter modulus is refused.
const MIN_RSA_MODULUS_CHARS: usize = 342;

/// One key with the one algorithm it verifies and the claims it asks for. What a token's header says can only rule a key
/// out, never choose how it is used.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) validation: Validation,
}

/// The claims asked for beside `exp`.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: String,
}

/// The claims that we read. jsonwebtoken validates `exp`, `nbf`, `aud` and `iss` by itself.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    pub(super) role: Option<String>,
    /// Seconds since 1970, whole or not.
    pub(super) exp: Option<f64>,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The application itself, whatever the `sub`.
    Service,
    User(Uuid),
    /// No user id is in it.
    Nobody,
}

impl Key {
    /// The key of HS256 tokens.
    pub(super) fn from_secret(secret: &Secret, expected: &Expected) -> Self {
        Self {
            id: None,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation: validation(Algorithm::HS256, expected),
        }
    }

    /// A key of a set, or `None` if it is of no kind that we verify with. `symmetric` allows shared secrets, which only a
    /// set that nobody else can read may hold.
    pub(super) fn from_jwk(jwk: &Jwk, symmetric: bool, expected: &Expected) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::RSA(key)
                if key.n.trim_end_matches('=').len() >= MIN_RSA_MODULUS_CHARS =>
            {
                Algorithm::RS256
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::OctetKey(_) if symmetric => Algorithm::HS256,
            _ => return None,
        };
        let common = &jwk.common;
        let algorithm_fits = common
            .key_algorithm
            .is_none_or(|stated| stated == KeyAlgorithm::from(algorithm));
        let for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let may_verify = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !(algorithm_fits && for_signatures && may_verify) {
            return None;
        }
        Some(Self {
            id: common.key_id.clone(),
            decoding: DecodingKey::from_jwk(jwk).ok()?,
            validation: validation(algorithm, expected),
        })
    }
}

/// jsonwebtoken lets a token pass that lacks `iss` or `aud` even where both are set, so they are listed as required. `sub` is not,
/// since tokens of the service role have none: who asks for a user asks for it.
fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    validation.set_audience(&[&expected.audience]);
    let mut required = vec!["exp", "aud"];
    if let Some(issuer) = &expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// The console's own key: random, made at start, never written anywhere.
#[derive(Clone)]
pub(crate) struct SessionKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

#[derive(Serialize)]
struct SessionClaims<'a> {
    sub: Uuid,
    aud: &'a str,
    iss: &'a str,
    iat: u64,
    exp: u64,
}

impl SessionKey {
    const ID: &'static str = "twotower-console";
    const AUDIENCE: &'static str = "authenticated";

    /// How long a session's token lasts, in seconds.
    pub(crate) const LIFETIME_S: u64 = 15 * 60;

    /// A key nobody else knows.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self {
            encoding: EncodingKey::from_secret(&bytes),
            decoding: DecodingKey::from_secret(&bytes),
        })
    }

    /// A token that makes its bearer `user` for [`Self::LIFETIME_S`].
    pub(crate) fn mint(&self, user: Uuid) -> Result<String, jsonwebtoken::errors::Error> {
        let now = jsonwebtoken::get_current_timestamp();
        let header = Header {
            kid: Some(Self::ID.into()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = SessionClaims {
            sub: user,
            aud: Self::AUDIENCE,
            iss: Self::ID,
            iat: now,
            exp: now + Self::LIFETIME_S,
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding)
    }

    pub(super) fn verifying(&self) -> Key {
        let expected = Expected {
            issuer: Some(Self::ID.into()),
            audience: Self::AUDIENCE.into(),
        };
        Key {
            id: Some(Self::ID.into()),
            decoding: self.decoding.clone(),
            validation: validation(Algorithm::HS256, &expected),
        }
    }
}
