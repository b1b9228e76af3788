//! Another try for what failed because the database was away for a moment.

use std::time::Duration;
use twotower_store::StoreError;

/// How often, and how long in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all.
    pub attempts: u32,
    /// Before the second try; each later pause is twice as long.
    pub first_pause: Duration,
}

impl Retry {
    /// Half a second before the second try.
    pub fn new(attempts: u32) -> Self {
        Self {
            attempts,
            first_pause: Duration::from_millis(500),
        }
    }

    /// Runs `operation` until it succeeds, fails for good ([`StoreError::may_pass`] is false), or has had its tries. It must
    /// be one that may be done twice: the answer to a call that went through may have been lost.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn run<T, F>(&self, what: &str, operation: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.run_while(StoreError::may_pass, what, operation).await
    }

    /// The same for as long as it fails with what `passes`.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn run_while<T, F>(
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

/// Between half and one and a half of `pause`: those that failed together should not come back together.
fn jittered(pause: Duration) -> Duration {
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
        let refused = || StoreError::LeaseLost;
        assert_eq!(tries(1, refused).await, (1, false));
    }
}
