//! Detached ed25519 signatures of manifests. A manifest states the hash of every file, so its signature holds for all of them.

use crate::snapshot::hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;

/// Domain separation: the signed message begins with this, so that a signature for another purpose
/// is not valid for a manifest.
const CONTEXT: &[u8] = b"twotower model manifest, signature 1\0";
/// First word of a signature file.
const FORMAT: &str = "twotower-signature-1";
const PUBLIC_PREFIX: &str = "ed25519:";
const PRIVATE_PREFIX: &str = "ed25519-private:";

/// A key that cannot be used. No message contains the key: a private key may have been given as a
/// public one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// A private key was given instead of a public one.
    #[error(
        "this is a private key: give its public key, which `twotower keys show` prints, and make a new pair if others could read this one"
    )]
    Private,
    /// A public key was given instead of a private one.
    #[error("this is a public key: signing takes the file that `twotower keys generate` wrote")]
    Public,
    /// The text has another form.
    #[error("the key is not `{expected}` followed by 32 bytes in base64: copy it again")]
    Malformed {
        /// Expected prefix.
        expected: &'static str,
    },
    /// A weak point, for which one signature can be valid for many messages.
    #[error("the key is none that `twotower keys generate` makes: it would take forged signatures")]
    Weak,
}

/// A public key, which verifies signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses `ed25519:` and 32 bytes in Base64.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.trim().starts_with(PRIVATE_PREFIX) {
            return Err(KeyError::Private);
        }
        let malformed = KeyError::Malformed {
            expected: PUBLIC_PREFIX,
        };
        let bytes = decode(text, PUBLIC_PREFIX).ok_or(malformed)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Weak)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self(key))
    }

    /// The first 16 hex digits of the key's SHA-256, by which people and signatures refer to it.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..8])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A private key, which signs. Its bytes are overwritten on drop, and only [`SigningKey::to_text`]
/// reveals them.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A key of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Parses the text of [`SigningKey::to_text`].
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.trim().starts_with(PUBLIC_PREFIX) {
            return Err(KeyError::Public);
        }
        let malformed = KeyError::Malformed {
            expected: PRIVATE_PREFIX,
        };
        let seed = decode(text, PRIVATE_PREFIX).ok_or(malformed)?;
        Ok(Self::from_seed(&seed))
    }

    /// `ed25519-private:` and 32 bytes in Base64, for a file that only its owner can read.
    pub fn to_text(&self) -> String {
        format!("{PRIVATE_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }

    /// The public key of the pair.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The text of `manifest.json.sig` for the bytes of a manifest. Deterministic.
    pub fn sign(&self, manifest: &[u8]) -> String {
        let signature = self.0.sign(&signed_bytes(manifest));
        line(&self.public().id(), &signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(redacted, of {})", self.public())
    }
}

/// Why a signature is not valid.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// It is not in the format of `twotower publish`.
    #[error("the signature is not of the form that `twotower publish` writes")]
    Malformed,
    /// It is by a key that is not trusted.
    #[error("it was signed by key {key_id}, and the trusted ones are {trusted}")]
    Untrusted {
        /// Id of the key that signed.
        key_id: String,
        /// Ids of the trusted keys.
        trusted: String,
    },
    /// It is a signature of other bytes.
    #[error("the signature by key {key_id} does not fit the manifest")]
    Wrong {
        /// Id of the key that it names.
        key_id: String,
    },
}

/// The one of the `trusted` keys that signed `manifest`.
///
/// # Errors
/// [`SignatureError`] if none did. Every byte of `signature` is checked, including those without
/// meaning.
pub fn verify<'a>(
    manifest: &[u8],
    signature: &[u8],
    trusted: &'a [PublicKey],
) -> Result<&'a PublicKey, SignatureError> {
    let (key_id, signature) = parse(signature).ok_or(SignatureError::Malformed)?;
    let mut named = trusted.iter().filter(|key| key.id() == key_id).peekable();
    if named.peek().is_none() {
        let trusted: Vec<_> = trusted.iter().map(PublicKey::id).collect();
        return Err(SignatureError::Untrusted {
            key_id,
            trusted: trusted.join(", "),
        });
    }
    let signed = signed_bytes(manifest);
    named
        .find(|key| key.0.verify_strict(&signed, &signature).is_ok())
        .ok_or(SignatureError::Wrong { key_id })
}

fn signed_bytes(manifest: &[u8]) -> Vec<u8> {
    [CONTEXT, manifest].concat()
}

fn line(key_id: &str, signature: &Signature) -> String {
    let signature = STANDARD.encode(signature.to_bytes());
    format!("{FORMAT} {key_id} {signature}\n")
}

fn parse(text: &[u8]) -> Option<(String, Signature)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_whitespace().skip(1);
    let (key_id, signature) = (words.next()?, words.next()?);
    let digits = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    if key_id.len() != 16 || !key_id.chars().all(digits) {
        return None;
    }
    let signature = Signature::from_slice(&STANDARD.decode(signature).ok()?).ok()?;
    // Each signature has one text: encoding it again must give the same bytes.
    (line(key_id, &signature) == text).then(|| (key_id.to_owned(), signature))
}

fn decode(text: &str, prefix: &str) -> Option<[u8; 32]> {
    let digits = text.trim().strip_prefix(prefix)?;
    STANDARD.decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &[u8] = b"{\n  \"checksum\": \"ab\"\n}\n";

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32])
    }

    #[test]
    fn keys_survive_being_written() {
        let public = key(1).public();
        assert_eq!(PublicKey::parse(&public.to_string()).unwrap(), public);
        let again = SigningKey::parse(&format!("{}\n", key(1).to_text())).unwrap();
        assert_eq!(again.public(), public);
        assert_ne!(key(2).public().id(), public.id());
    }

    #[test]
    fn keys_of_the_other_kind_are_told_apart_and_never_shown() {
        let private = key(1).to_text();
        let errors = [
            PublicKey::parse(&private).unwrap_err(),
            SigningKey::parse(&key(1).public().to_string()).unwrap_err(),
            SigningKey::parse(&private[..40]).unwrap_err(),
            PublicKey::parse("ed25519:AAAA").unwrap_err(),
        ];
        assert_eq!(
            (&errors[0], &errors[1]),
            (&KeyError::Private, &KeyError::Public)
        );
        let secret = private.strip_prefix(PRIVATE_PREFIX).unwrap();
        for text in errors.map(|error| format!("{error} {error:?}")) {
            assert!(!text.contains(&secret[..8]), "{text}");
        }
        assert!(!format!("{:?}", key(1)).contains(&secret[..8]));
    }

    #[test]
    fn a_point_of_small_order_is_no_key() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let text = format!("{PUBLIC_PREFIX}{}", STANDARD.encode(identity));
        assert_eq!(PublicKey::parse(&text), Err(KeyError::Weak));
    }

    #[test]
    fn any_of_several_trusted_keys_will_do_and_no_other() {
        let signature = key(2).sign(MANIFEST);
        let trusted = [key(1).public(), key(2).public()];
        let by = verify(MANIFEST, signature.as_bytes(), &trusted).unwrap();
        assert_eq!(*by, key(2).public());
        let error = verify(MANIFEST, signature.as_bytes(), &trusted[..1]).unwrap_err();
        assert!(matches!(error, SignatureError::Untrusted { .. }), "{error}");
        // Names a trusted key.
        let forged = signature.replace(&key(2).public().id(), &key(1).public().id());
        let error = verify(MANIFEST, forged.as_bytes(), &trusted).unwrap_err();
        assert!(matches!(error, SignatureError::Wrong { .. }), "{error}");
    }

    #[test]
    fn a_signature_of_the_manifest_alone_is_none() {
        let raw = key(1).0.sign(MANIFEST);
        let text = line(&key(1).public().id(), &raw);
        let error = verify(MANIFEST, text.as_bytes(), &[key(1).public()]).unwrap_err();
        assert!(matches!(error, SignatureError::Wrong { .. }), "{error}");
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let signature = key(1).sign(MANIFEST).into_bytes();
        let trusted = [key(1).public()];
        verify(MANIFEST, &signature, &trusted).unwrap();
        for (good, manifest) in [(&signature, false), (&MANIFEST.to_vec(), true)] {
            for position in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[position] ^= 1 << bit;
                    let verified = if manifest {
                        verify(&bad, &signature, &trusted)
                    } else {
                        verify(MANIFEST, &bad, &trusted)
                    };
                    assert!(verified.is_err(), "byte {position}, bit {bit}");
                }
            }
        }
        for bad in [
            &signature[..signature.len() - 1],
            b"",
            &[&signature[..], b"\n"].concat(),
        ] {
            assert!(verify(MANIFEST, bad, &trusted).is_err());
        }
    }
}
