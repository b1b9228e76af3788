//! Tokens that were verified lately. Verifying one by a public key takes a multiple of what the rest of a request does, and most come again
//! and again.

use super::key::{Caller, Key};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// So many are remembered, for so long at most.
const MOST: u64 = 20_000;
const REMEMBERED: Duration = Duration::from_mins(10);

/// Stands for a token, which is not kept itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// A token that holds.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    pub(super) caller: Caller,
    /// Seconds since 1970; nobody is let in by memory from then on.
    pub(super) expires: u64,
    /// The keys of an address or a file, where one of those has verified it.
    pub(super) keys: Option<Arc<[Key]>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct VerifiedTokens(Cache<TokenHash, Verified>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        let tokens = Cache::builder()
            .max_capacity(MOST)
            .time_to_live(REMEMBERED)
            .build();
        Self(tokens)
    }

    /// Who brings the token, if it was verified before, has not expired at `now`, and what verified it would still be asked: `held` are the
    /// keys of the address or file now, which are others once they were read again.
    pub(super) fn caller(
        &self,
        token: TokenHash,
        held: Option<&Arc<[Key]>>,
        now: u64,
    ) -> Option<Caller> {
        let verified = self.0.get(&token)?;
        let is_asked = match &verified.keys {
            None => true,
            Some(keys) => held.is_some_and(|held| Arc::ptr_eq(keys, held)),
        };
        (is_asked && now < verified.expires).then_some(verified.caller)
    }

    pub(super) fn remember(&self, token: TokenHash, verified: Verified) {
        self.0.insert(token, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_or_other_keys_are_held() {
        let tokens = VerifiedTokens::new();
        let (shared, public) = (TokenHash::of("shared"), TokenHash::of("public"));
        let keys: Arc<[Key]> = Arc::from([]);
        let verified = |keys| Verified {
            caller: Caller::Service,
            expires: 100,
            keys,
        };
        assert_eq!(tokens.caller(shared, None, 0), None);
        tokens.remember(shared, verified(None));
        tokens.remember(public, verified(Some(Arc::clone(&keys))));
        for token in [shared, public] {
            assert_eq!(tokens.caller(token, Some(&keys), 99), Some(Caller::Service));
            assert_eq!(tokens.caller(token, Some(&keys), 100), None, "expired");
        }
        let fetched: Arc<[Key]> = Arc::from([]);
        for held in [Some(&fetched), None] {
            assert_eq!(tokens.caller(public, held, 99), None);
            assert_eq!(tokens.caller(shared, held, 99), Some(Caller::Service));
        }
        assert_eq!(tokens.caller(TokenHash::of("other"), Some(&keys), 99), None);
    }
}
