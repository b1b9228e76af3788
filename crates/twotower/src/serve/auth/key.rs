use super::config::{MIN_SECRET_BYTES, Secret};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use uuid::Uuid;

/// Largest allowed difference between the clocks of issuer and server, seconds.
const LEEWAY_S: u64 = 5;

/// Bits of an RSA modulus: fewer are too easily factored, and the verifying library refuses more.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// Bits of an RSA exponent. With the exponent 1 anybody could sign.
const RSA_EXPONENT_BITS: RangeInclusive<usize> = 2..=33;

/// Most characters of a key id in the log: an id may be as long as its set.
const SHOWN_OF_ID: usize = 64;

/// Bytes of an Ed25519 public key.
const ED25519_BYTES: usize = 32;

/// A key with its one algorithm and the claims it requires. A token's header can exclude a key but
/// never choose its algorithm.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) validation: Validation,
}

/// Why a key of a set is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PassedOver {
    /// Its kind or use is not ours: the set is for other services as well.
    Foreign,
    /// It is of our kind but can verify nothing.
    Unsound(Unsound),
}

/// Description of a key that can verify nothing, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsound {
    /// The beginning of its id. The author of the set chose it, so it must be escaped in the log.
    pub(super) id: Option<String>,
    pub(super) kind: &'static str,
    /// What a usable key of this kind is.
    pub(super) asked: &'static str,
}

impl PassedOver {
    fn unsound(jwk: &Jwk, algorithm: Algorithm) -> Self {
        let (kind, asked) = match algorithm {
            Algorithm::HS256 => ("oct", "a secret of 32 bytes or more, in base64url"),
            Algorithm::RS256 => (
                "RSA",
                "an odd modulus of 2048 to 4096 bits and an odd exponent of 2 to 33 bits, in base64url",
            ),
            Algorithm::EdDSA => ("OKP Ed25519", "a point of the curve, 32 bytes in base64url"),
            _ => ("EC P-256", "a point of the curve, in base64url"),
        };
        let id = jwk.common.key_id.as_ref();
        Self::Unsound(Unsound {
            id: id.map(|id| id.chars().take(SHOWN_OF_ID).collect()),
            kind,
            asked,
        })
    }
}

/// The claims required besides `exp`.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: String,
}

/// The claims we read. jsonwebtoken validates `exp`, `nbf`, `aud` and `iss`.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    pub(super) role: Option<String>,
    /// Seconds since 1970, whole or not.
    pub(super) exp: Option<f64>,
}

/// The bearer of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The application itself, whatever the `sub`.
    Service,
    User(Uuid),
    /// The token has no user id.
    Nobody,
}

impl Key {
    /// The key of tokens signed with `secret` (HS256).
    pub(super) fn from_secret(secret: &Secret, expected: &Expected) -> Self {
        Self {
            id: None,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation: validation(Algorithm::HS256, expected),
        }
    }

    /// A key of a set. `symmetric` allows shared secrets, for sets that only we can read.
    pub(super) fn from_jwk(
        jwk: &Jwk,
        symmetric: bool,
        expected: &Expected,
    ) -> Result<Self, PassedOver> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::OctetKey(_) if symmetric => Algorithm::HS256,
            _ => return Err(PassedOver::Foreign),
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
            return Err(PassedOver::Foreign);
        }
        let decoding = DecodingKey::from_jwk(jwk)
            .ok()
            .filter(|decoding| is_sound(decoding, algorithm));
        let decoding = decoding.ok_or_else(|| PassedOver::unsound(jwk, algorithm))?;
        Ok(Self {
            id: common.key_id.clone(),
            decoding,
            validation: validation(algorithm, expected),
        })
    }
}

/// Whether a key can verify anything. jsonwebtoken does not check keys before it uses them, and
/// panics on an Ed25519 key of fewer than 32 bytes.
fn is_sound(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match (key.kind(), algorithm) {
        (DecodingKeyKind::RsaModulusExponent { n, e }, _) => {
            let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
            RSA_BITS.contains(&bits(n))
                && RSA_EXPONENT_BITS.contains(&bits(e))
                && is_odd(n)
                && is_odd(e)
        }
        (DecodingKeyKind::SecretOrDer(secret), Algorithm::HS256) => {
            secret.len() >= MIN_SECRET_BYTES
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::EdDSA) if bytes.len() != ED25519_BYTES => {
            false
        }
        // An error only if the key is not a point of the curve. An empty signature is not an error,
        // but does not verify.
        _ => jsonwebtoken::crypto::verify("", b"", key, algorithm).is_ok(),
    }
}

/// Number of bits of a big-endian number, without leading zeros.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    match &number[zeros..] {
        [] => 0,
        [first, rest @ ..] => 8 * (rest.len() + 1) - first.leading_zeros() as usize,
    }
}

/// Checks for tokens of one algorithm. jsonwebtoken accepts a token without `iss` or `aud` even
/// where values are set for both, so both are listed as required. `sub` is not, since tokens of the
/// service role have none: handlers that need a user require it.
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

/// The console's own key: random, generated at start, never written anywhere.
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

    /// Lifetime of a session's token, seconds.
    pub(crate) const LIFETIME_S: u64 = 15 * 60;

    /// A random key.
    ///
    /// # Errors
    /// If the operating system provides no random bytes.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self {
            encoding: EncodingKey::from_secret(&bytes),
            decoding: DecodingKey::from_secret(&bytes),
        })
    }

    /// A token of `user`, valid for [`Self::LIFETIME_S`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    /// Whether a key of a known kind is usable; an unusable one is [`PassedOver::Unsound`].
    fn is_usable(key: Value) -> bool {
        let expected = Expected {
            issuer: None,
            audience: "authenticated".into(),
        };
        let jwk: Jwk = serde_json::from_value(key).unwrap();
        match Key::from_jwk(&jwk, true, &expected) {
            Ok(_) => true,
            Err(PassedOver::Unsound(_)) => false,
            Err(PassedOver::Foreign) => panic!("it is of a kind that is known"),
        }
    }

    #[test]
    fn a_key_that_can_verify_nothing_is_not_usable() {
        let ed = |bytes: &[u8]| {
            let x = URL_SAFE_NO_PAD.encode(bytes);
            json!({"kty": "OKP", "crv": "Ed25519", "x": x})
        };
        // Zero is a point of the curve.
        for (bytes, usable) in [(0, false), (1, false), (31, false), (32, true), (33, false)] {
            assert_eq!(is_usable(ed(&vec![0; bytes])), usable, "{bytes}");
        }
        let x = "WmPhSoePt2EMBV3LcBYXwXsGAikR3YQkkZkkOo9RD3A";
        let y = "iROuqvxluo3uqtraXrjjnj6OyO8adwRaaIwk9Z6orxU";
        let ec = |x: &str, y: &str| json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        for (x, y, usable) in [
            (x, y, true),
            (x, x, false),
            (y, x, false),
            (x, "AA", false),
            (x, "", false),
            ("", "", false),
        ] {
            assert_eq!(is_usable(ec(x, y)), usable, "{x} {y}");
        }
        let secret = |length: usize| {
            let k = URL_SAFE_NO_PAD.encode(vec![7; length]);
            json!({"kty": "oct", "k": k})
        };
        for (length, usable) in [(0, false), (31, false), (32, true), (64, true)] {
            assert_eq!(is_usable(secret(length)), usable, "{length}");
        }
    }

    #[test]
    fn leading_zeros_of_rsa_numbers_do_not_count() {
        let rsa = |n: &[u8], e: &[u8]| {
            let [n, e] = [n, e].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
            json!({"kty": "RSA", "n": n, "e": e})
        };
        let modulus = |zeros: usize, bytes: usize, first: u8, last: u8| {
            let mut number = vec![0; zeros];
            number.push(first);
            number.resize(zeros + bytes - 1, 0x55);
            number.push(last);
            number
        };
        let common = [1, 0, 1];
        for (number, usable) in [
            (modulus(0, 256, 0x80, 1), true),
            (modulus(1, 256, 0x80, 1), true),
            (modulus(0, 512, 0xff, 1), true),
            (modulus(0, 256, 0x7f, 1), false),
            (modulus(128, 128, 0x80, 1), false),
            (modulus(0, 256, 0x80, 2), false),
            (modulus(0, 513, 1, 1), false),
            (vec![0; 256], false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_usable(rsa(&number, &common)), usable, "{number:?}");
        }
        let number = modulus(0, 256, 0x80, 1);
        for (exponent, usable) in [
            (vec![3], true),
            (vec![0, 1, 0, 1], true),
            (vec![1, 0xff, 0xff, 0xff, 0xff], true),
            (Vec::new(), false),
            (vec![1], false),
            (vec![4], false),
            (vec![2, 0, 0, 0, 1], false),
        ] {
            assert_eq!(is_usable(rsa(&number, &exponent)), usable, "{exponent:?}");
        }
    }
}
