//! Retries of calls that fail because the database is away for a moment.

use anyhow::Context;
use std::time::Duration;
use twotower_store::StoreError;

/// How many attempts an operation gets, and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Number of attempts, the first one included.
    pub(crate) attempts: u32,
    /// Pause before the second attempt; each later pause is twice as long.
    pub(crate) first_pause: Duration,
}

impl Retry {
    /// With half a second before the second attempt.
    pub(crate) fn new(attempts: u32) -> Self {
        Self {
            attempts,
            first_pause: Duration::from_millis(500),
        }
    }

    /// Runs `operation` as [`Retry::run`] does. `what` names it, in the log and as the context of
    /// the error.
    ///
    /// # Errors
    /// That of the last attempt.
    pub(crate) async fn call<T, F>(
        &self,
        what: &'static str,
        operation: impl Fn() -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.run(what, operation).await.context(what)
    }

    /// Runs `operation` until it succeeds, fails for good ([`StoreError::may_pass`] is false), or
    /// has used up its attempts. `what` names it in the log.
    ///
    /// The operation must be idempotent: the answer to a call that succeeded may have been lost.
    ///
    /// # Errors
    /// That of the last attempt.
    pub(crate) async fn run<T, F>(
        &self,
        what: &str,
        operation: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.run_while(StoreError::may_pass, what, operation).await
    }

    /// As [`Retry::run`], but `passes` says which errors are worth another attempt.
    ///
    /// # Errors
    /// That of the last attempt.
    pub(crate) async fn run_while<T, F>(
        &self,
        passes: impl Fn(&StoreError) -> bool,
        what: &str,
        operation: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = self.first_pause;
        for attempt in 1..self.attempts {
            match operation().await {
                Err(error) if passes(&error) => {
                    tracing::warn!(
                        "{what}: {error}; try {attempt} of {}, the next in about {:.1} s",
                        self.attempts,
                        pause.as_secs_f64()
                    );
                    tokio::time::sleep(jittered(pause)).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
        operation().await
    }
}

/// Between 0.5 and 1.5 times `pause`, at random, so that processes that failed together do not
/// return together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const QUICK: Retry = Retry {
        attempts: 3,
        first_pause: Duration::from_millis(1),
    };

    async fn tries(fails: u32, error: fn() -> StoreError) -> (u32, bool) {
        let tries = Cell::new(0);
        let operation = || async {
            tries.set(tries.get() + 1);
            if tries.get() <= fails {
                Err(error())
            } else {
                Ok(())
            }
        };
        let ok = QUICK.run("test", operation).await.is_ok();
        (tries.get(), ok)
    }

    #[tokio::test]
    async fn what_passes_is_tried_again_and_nothing_else() {
        let away = || StoreError::Connection(std::io::Error::other("reset").into());
        assert_eq!(tries(0, away).await, (1, true));
        assert_eq!(tries(2, away).await, (3, true));
        assert_eq!(tries(3, away).await, (3, false));
        let error = QUICK.call("read", || async { Err::<(), _>(away()) }).await;
        let said = format!("{:#}", error.unwrap_err());
        assert!(said.starts_with("read: the connection"), "{said}");
        let refused = || StoreError::LeaseLost;
        assert_eq!(tries(1, refused).await, (1, false));
    }
}
