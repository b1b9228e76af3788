//! Stopping on request: Ctrl-C, SIGTERM, or the end of the parent process.

use crate::jobs::JobError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interval at which a waiting task looks at the flag.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A flag that is set when the user asks to stop. Long work checks it between steps.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the user asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends work that is between two steps if the user asked to stop.
    ///
    /// # Errors
    /// [`JobError::Interrupted`]
    pub fn check(&self) -> Result<(), JobError> {
        if self.is_set() {
            Err(JobError::Interrupted)
        } else {
            Ok(())
        }
    }

    /// Waits until the user asks to stop.
    pub async fn wait(&self) {
        while !self.is_set() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Runs `work`, and drops the future when the user asks to stop. Use it only for work that can
    /// be cancelled at any point.
    ///
    /// # Errors
    /// [`JobError::Interrupted`]
    pub async fn cut<T>(&self, work: impl Future<Output = T>) -> Result<T, JobError> {
        tokio::select! {
            biased;
            () = self.wait() => Err(JobError::Interrupted),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn once_asked_nothing_goes_on() {
        let interrupt = Interrupt::default();
        assert!(interrupt.check().is_ok());
        assert!(matches!(interrupt.cut(async { 7 }).await, Ok(7)));
        interrupt.clone().set();
        assert!(matches!(interrupt.check(), Err(JobError::Interrupted)));
        // Even work that is ready is not taken.
        let cut = interrupt.cut(async { 7 }).await;
        assert!(matches!(cut, Err(JobError::Interrupted)));
    }
}
