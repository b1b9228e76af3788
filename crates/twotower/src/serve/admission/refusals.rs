use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a refusal is held back if it is the only one, and at most.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

/// So many others that are held make it longer by [`SHORTEST`].
const STEP: u32 = 64;

/// Refusals that are told later than they could be.
///
/// A client that asks again at once would keep the server busy with refusing, which costs nearly as much as a cheap answer. Most send one
/// request at a time on a connection and wait for its answer, so that who waits sends nothing; the more there are, the longer each waits. A
/// connection more or less idle is all that it costs, and those are limited.
#[derive(Debug, Default)]
pub(in crate::serve) struct Refusals {
    held: AtomicU32,
}

impl Refusals {
    /// Returns when the refusal is to be told.
    pub(in crate::serve) async fn hold(&self) {
        let _held = Held::new(&self.held);
        tokio::time::sleep(how_long(self.held.load(Ordering::Relaxed))).await;
    }
}

fn how_long(held: u32) -> Duration {
    (SHORTEST + SHORTEST * held / STEP).min(LONGEST)
}

/// Counted until it is dropped: the caller may hang up meanwhile.
struct Held<'a>(&'a AtomicU32);

impl<'a> Held<'a> {
    fn new(held: &'a AtomicU32) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_are_held_the_longer_each_of_them() {
        assert_eq!(how_long(0), SHORTEST);
        assert_eq!(how_long(2 * STEP), 3 * SHORTEST);
        assert_eq!(how_long(u32::MAX), LONGEST);
    }

    #[tokio::test]
    async fn who_hangs_up_is_held_no_more() {
        let refusals = Refusals::default();
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, refusals.hold()).await.is_err());
        assert_eq!(refusals.held.load(Ordering::Relaxed), 0);
        refusals.hold().await;
        assert_eq!(refusals.held.load(Ordering::Relaxed), 0);
    }
}
