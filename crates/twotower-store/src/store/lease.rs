//! The publisher's lease.

use super::{Engine, GRACE, Store};
use crate::{Lease, LeaseHolder, LeaseOutcome, StoreError};
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Requests the lease for `lifetime`. `asking` identifies the holder to others.
    pub async fn take_lease(
        &self,
        asking: &LeaseHolder,
        lifetime: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            take_lease(asking, lifetime)
        )
    }

    /// Extends the lease by its lifetime from now; [`StoreError::LeaseLost`] if another process has
    /// taken it over.
    pub async fn renew_lease(&self, lease: Lease) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, renew_lease(lease))
    }

    /// Releases the lease, if it is still ours.
    pub async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, release_lease(lease))
    }

    /// The same store for the holder of a lease. Its writes of models and vectors fail with
    /// [`StoreError::LeaseLost`] once another process has taken the lease over; nothing is written
    /// then.
    #[must_use]
    pub fn under(&self, lease: Lease) -> Self {
        Self {
            lease: Some(lease),
            ..self.clone()
        }
    }
}

/// Checks that the lease's row was found with our fence.
pub(crate) fn still_ours(rows: u64) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::LeaseLost)
    }
}
