//! Changes to users' data, without naming the user.

use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// A message to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// A like, skip or block of one user was added or removed, or the user was erased.
    User(UserChangeKey),
    /// Many users changed, or changes were missed until now: everything cached about any user is
    /// out of date.
    All,
    /// The connection is lost. Changes are missed from here until [`UserChange::All`].
    Lost,
}

/// Stands for a user in notifications. Only the database's secret links it to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserChangeKey([u8; 16]);

/// Computes the keys of users' ids.
#[derive(Clone)]
pub struct UserChangeHasher {
    secret: [u8; 32],
}

impl UserChangeHasher {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// First half of SHA-256 over the database's secret and the 16 bytes of the id, as in
    /// `twotower.user_change_key`.
    pub fn key(&self, user: Uuid) -> UserChangeKey {
        let hash = Sha256::new()
            .chain_update(self.secret)
            .chain_update(user.as_bytes())
            .finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        UserChangeKey(key)
    }
}

impl fmt::Debug for UserChangeHasher {
    /// Omits the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserChangeHasher").finish_non_exhaustive()
    }
}

impl UserChange {
    /// Parses a payload: `all`, or a key of 32 hexadecimal digits. `None` otherwise: anybody can
    /// send anything on a channel.
    pub(crate) fn parse(payload: &str) -> Option<Self> {
        if payload == "all" {
            return Some(Self::All);
        }
        // No hyphens, which the parser of ids would accept.
        let digits = payload.len() == 32 && payload.bytes().all(|byte| byte.is_ascii_hexdigit());
        let key = Uuid::try_parse(payload).ok().filter(|_| digits)?;
        Some(Self::User(UserChangeKey(key.into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_keys_or_all_or_noise() {
        let user = |bytes| Some(UserChange::User(UserChangeKey(bytes)));
        assert_eq!(UserChange::parse("all"), Some(UserChange::All));
        let digits = "000102030405060708090a0b0c0d0e0f";
        let bytes = std::array::from_fn(|n| n as u8);
        assert_eq!(UserChange::parse(digits), user(bytes));
        for noise in ["", "ALL", "00010203-0405-0607-0809-0a0b0c0d0e0f", "zz", "é"] {
            assert_eq!(UserChange::parse(noise), None, "{noise}");
        }
    }
}
