//! Runs work that must not take a core away from requests.

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use thiserror::Error;
use tokio::sync::oneshot;

/// The work has panicked, which is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a part of the work has panicked")]
pub(super) struct Panicked;

/// One thread, at low priority where the system allows that.
static POOL: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "index".into())
        .start_handler(|_| lower_priority())
        // Without a handler, rayon aborts the process. The panic itself is logged, and the caller
        // of `run` gets an error.
        .panic_handler(|_| tracing::error!("work in the background has panicked"))
        .build()
        .inspect_err(|error| tracing::warn!(%error, "no thread for building indices of its own"))
        .ok()
});

/// Runs `work` on the background thread, including its parallel parts.
///
/// # Errors
/// If it panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (done, result) = oneshot::channel();
    spawn(move || {
        // The caller may have stopped waiting.
        let _ = done.send(work());
    });
    result.await.map_err(|_| Panicked)
}

/// Waits for `work`, which must leave no partial change that others can see.
///
/// # Errors
/// If it panicked.
pub(super) async fn contained<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let contained = AssertUnwindSafe(work).catch_unwind();
    contained.await.map_err(|_| Panicked)
}

/// Queues `work` for the background thread.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
    match &*POOL {
        Some(pool) => pool.spawn(work),
        None => {
            tokio::task::spawn_blocking(work);
        }
    }
}

/// Lowers the priority of the calling thread, permanently: on Linux, niceness is a property of the
/// thread.
#[cfg(target_os = "linux")]
pub(super) fn lower_priority() {
    use rustix::process::setpriority_process;
    let lowered = setpriority_process(Some(rustix::thread::gettid()), 10);
    if let Err(error) = lowered {
        tracing::debug!(%error, "the priority stays as it is");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn lower_priority() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_work_and_of_nothing_else() {
        let panics = || -> u32 { panic!("as if by a defect") };
        assert_eq!(run(panics).await, Err(Panicked));
        assert_eq!(run(|| 7).await, Ok(7));
        assert_eq!(contained(async { panics() }).await, Err(Panicked));
        assert_eq!(contained(async { 7 }).await, Ok(7));
    }
}
