use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Delay of a refusal if no other is held, and the longest delay.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

/// For this many held refusals, [`SHORTEST`] is added to the delay, in proportion.
const STEP: u32 = 64;

/// Delays refusals.
///
/// A client that retries at once would keep the server busy with refusals, which cost nearly as
/// much as a cheap answer. Most clients send one request at a time on a connection, so a client
/// that waits for its refusal sends nothing. The more refusals are held, the longer each is held. A
/// held refusal costs an idle connection, and the number of connections is limited.
#[derive(Debug, Default)]
pub(in crate::serve) struct Refusals {
    held: AtomicU32,
}

impl Refusals {
    /// Returns when the refusal is to be sent.
    pub(in crate::serve) async fn hold(&self) {
        let _held = Held::new(&self.held);
        tokio::time::sleep(delay(self.held.load(Ordering::Relaxed))).await;
    }
}

fn delay(held: u32) -> Duration {
    (SHORTEST + SHORTEST * held / STEP).min(LONGEST)
}

/// Counts a held refusal until it is dropped, since the caller may hang up meanwhile.
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
    fn the_delay_grows_with_the_number_of_held_refusals() {
        assert_eq!(delay(0), SHORTEST);
        assert_eq!(delay(2 * STEP), 3 * SHORTEST);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[tokio::test]
    async fn a_caller_who_hangs_up_no_longer_counts() {
        let refusals = Refusals::default();
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, refusals.hold()).await.is_err());
        assert_eq!(refusals.held.load(Ordering::Relaxed), 0);
        refusals.hold().await;
        assert_eq!(refusals.held.load(Ordering::Relaxed), 0);
    }
}
