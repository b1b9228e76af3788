//! Work that must not take a core away from requests.

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use thiserror::Error;
use tokio::sync::oneshot;

/// Work has panicked, and told of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a part of the work has panicked")]
pub(super) struct Panicked;

/// One thread at low priority, where the system lets us say so.
static POOL: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "index".into())
        .start_handler(|_| lower_priority())
        // Without one the whole process would end. The panic has told of itself, and who waits for the work learns that it is gone.
        .panic_handler(|_| tracing::error!("work in the background has panicked"))
        .build()
        .inspect_err(|error| tracing::warn!(%error, "no thread for building indices of its own"))
        .ok()
});

/// Runs `work` on the thread for such work, parallel parts included.
///
/// # Errors
/// If it panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (done, result) = oneshot::channel();
    spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
    });
    result.await.map_err(|_| Panicked)
}

/// Waits for `work`, which shows others nothing half done.
///
/// # Errors
/// If it panicked.
pub(super) async fn contained<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let contained = AssertUnwindSafe(work).catch_unwind();
    contained.await.map_err(|_| Panicked)
}

/// Has `work` done on that thread some time.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
    match &*POOL {
        Some(pool) => pool.spawn(work),
        None => {
            tokio::task::spawn_blocking(work);
        }
    }
}

/// Of the calling thread, for good: on Linux niceness is a property of the thread.
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
