use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const MAX_BYTES: usize = 64;

/// The id of a request, in the answer and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's id if it is short and plain, else a random one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let plain = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=MAX_BYTES).contains(&bytes.len())
                && bytes
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        };
        match headers.get(HEADER).filter(plain) {
            Some(value) => Self(value.clone()),
            None => Self::random(),
        }
    }

    fn random() -> Self {
        // The hash of a counter under a random key, which takes no system call.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let hash = KEY.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
        let hex = format!("{hash:016x}");
        Self(HeaderValue::try_from(hex).unwrap_or(HeaderValue::from_static("unknown")))
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("unknown")
    }

    pub(super) fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_of_callers_are_used() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(of("a-1_b.C"), "a-1_b.C");
        for bad in ["", "a b", "\"", "<x>", "é"] {
            assert_eq!(of(bad).len(), 16, "{bad}");
        }
        assert_ne!(of(""), of(""));
    }
}
