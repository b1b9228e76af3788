//! Tokens that were verified recently. To verify a token with a public key takes several times as
//! long as the rest of a request, and most tokens arrive many times.

use super::key::{Caller, Key};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Most tokens that are remembered, and for how long.
const MAX_TOKENS: u64 = 20_000;
const TTL: Duration = Duration::from_mins(10);

/// SHA-256 of a token. The token itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// A valid token.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    pub(super) caller: Caller,
    /// Seconds since 1970. The entry is not used from then on.
    pub(super) expires: u64,
    /// The keys of the address or file, if one of those has verified it.
    pub(super) keys: Option<Arc<[Key]>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct VerifiedTokens(Cache<TokenHash, Verified>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        let tokens = Cache::builder()
            .max_capacity(MAX_TOKENS)
            .time_to_live(TTL)
            .build();
        Self(tokens)
    }

    /// The bearer of the token, if it was verified, has not expired at `now`, and the keys that
    /// verified it are still current: `held` is the current set of the address or file, a new one
    /// after each fetch or read.
    pub(super) fn caller(
        &self,
        token: TokenHash,
        held: Option<&Arc<[Key]>>,
        now: u64,
    ) -> Option<Caller> {
        let verified = self.0.get(&token)?;
        let is_current = match &verified.keys {
            None => true,
            Some(keys) => held.is_some_and(|held| Arc::ptr_eq(keys, held)),
        };
        (is_current && now < verified.expires).then_some(verified.caller)
    }

    pub(super) fn remember(&self, token: TokenHash, verified: Verified) {
        self.0.insert(token, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_remembered_until_it_expires_or_the_keys_are_replaced() {
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
