//! The lease that lets one process at a time publish, renewed while it is used.

use super::identity::this_process;
use super::{JobError, Retry};
use crate::config::Update;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use twotower_store::{Lease, LeaseHolder, LeaseOutcome, Store, StoreError};

/// The outcome of a job that only a publisher may do.
#[derive(Debug, Clone)]
pub(crate) enum Published<T> {
    /// The job is done.
    Done(T),
    /// Nothing was done, because another process publishes.
    Held(LeaseHolder),
}

/// A publisher gives up after this many lifetimes of the lease without an answer from the database:
/// its connections may hang, and another process may publish by then.
const SILENT_LIFETIMES: u32 = 3;

/// The only process that writes vectors and switches readers. If it is killed, nobody publishes
/// until the lease expires.
pub(crate) struct Publisher {
    store: Store,
    lease: Lease,
    heartbeat: JoinHandle<StoreError>,
}

impl Publisher {
    /// Takes the lease. `Ok(Err(_))` is the process that holds it.
    pub(super) async fn begin(
        store: &Store,
        settings: &Update,
    ) -> anyhow::Result<Result<Self, LeaseHolder>> {
        let lifetime = Duration::from_secs(settings.lease_seconds.max(1).into());
        let lifetime = lifetime.min(Lease::LONGEST);
        let asking = this_process();
        let outcome = Retry::new(settings.attempts)
            .call("ask to publish", || store.take_lease(&asking, lifetime))
            .await?;
        Ok(match outcome {
            LeaseOutcome::Held(holder) => Err(holder),
            LeaseOutcome::Taken(lease) => Ok(Self {
                store: store.under(lease),
                lease,
                heartbeat: tokio::spawn(keep_alive(store.clone(), lease, lifetime)),
            }),
        })
    }

    /// As [`Publisher::begin`], but another publisher is an error.
    ///
    /// # Errors
    /// [`JobError::Held`] if another process publishes, or the store fails.
    pub(crate) async fn begin_or_fail(store: &Store, settings: &Update) -> anyhow::Result<Self> {
        match Self::begin(store, settings).await? {
            Ok(publisher) => Ok(publisher),
            Err(holder) => Err(JobError::held(&holder).into()),
        }
    }

    /// The store, with the lease attached to its writes.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Does `work`, then releases the lease. Work is dropped as soon as the lease is known to be
    /// lost.
    pub(crate) async fn publish<T>(
        mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let lost = tokio::select! {
            done = work => {
                self.end().await;
                return done;
            }
            lost = &mut self.heartbeat => lost?,
        };
        Err(lost.into())
    }

    /// Releases the lease.
    pub(crate) async fn end(self) {
        self.heartbeat.abort();
        if let Err(error) = self.store.release_lease(self.lease).await {
            tracing::warn!("publishing stays ours until the lease expires: {error}");
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// Renews the lease until it is lost, and returns the reason.
async fn keep_alive(store: Store, lease: Lease, lifetime: Duration) -> StoreError {
    let patience = SILENT_LIFETIMES * lifetime;
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(lifetime / 4).await;
        let asked = Instant::now();
        let left = patience.saturating_sub(renewed.elapsed());
        match tokio::time::timeout(left, store.renew_lease(lease)).await {
            Ok(Ok(())) => renewed = asked,
            Ok(Err(error @ StoreError::LeaseLost)) => return error,
            Ok(Err(error)) => {
                tracing::warn!("the lease could not be renewed, once more soon: {error}");
            }
            Err(_) => {}
        }
        if renewed.elapsed() >= patience {
            return StoreError::Deadline {
                operation: "renew_lease",
                limit: patience,
            };
        }
    }
}
