//! The right to publish, kept alive while it is used.

use super::identity::this_process;
use super::{JobError, Retry};
use crate::config::Update;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use twotower_store::{Lease, LeaseHolder, LeaseOutcome, Store, StoreError};

/// What came of asking.
pub(super) enum Publishing {
    /// We may.
    Begun(Publisher),
    /// Somebody else does.
    Held(LeaseHolder),
}

/// So many lifetimes of the lease without an answer from the database, and the publisher gives up: its connections may hang,
/// and others publish by now.
const SILENT_LIFETIMES: u32 = 3;

/// The only process that writes vectors and switches readers. Killed, it is so until the lease expires.
pub(crate) struct Publisher {
    store: Store,
    lease: Lease,
    heartbeat: JoinHandle<StoreError>,
}

impl Publisher {
    pub(super) async fn begin(store: &Store, settings: &Update) -> Result<Publishing, StoreError> {
        let lifetime = Duration::from_secs(settings.lease_seconds.max(1).into());
        let lifetime = lifetime.min(Lease::LONGEST);
        let asking = this_process();
        let outcome = Retry::new(settings.attempts)
            .run("ask to publish", || store.take_lease(&asking, lifetime))
            .await?;
        Ok(match outcome {
            LeaseOutcome::Held(holder) => Publishing::Held(holder),
            LeaseOutcome::Taken(lease) => Publishing::Begun(Self {
                store: store.under(lease),
                lease,
                heartbeat: tokio::spawn(keep_alive(store.clone(), lease, lifetime)),
            }),
        })
    }

    /// As [`Publisher::begin`], for those to whom anything but success is a failure.
    pub(crate) async fn begin_or_fail(store: &Store, settings: &Update) -> anyhow::Result<Self> {
        match Self::begin(store, settings).await? {
            Publishing::Begun(publisher) => Ok(publisher),
            Publishing::Held(holder) => Err(JobError::held(&holder).into()),
        }
    }

    /// The store to publish in.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Does `work`, and lets the next one in. The work is given up as soon as it is known to be in vain.
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

    /// Lets the next one in.
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

/// Renews the lease until that is in vain, and says why it is.
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
