//! Who publishes: one at a time.

use super::{Engine, GRACE, Store};
use crate::{Lease, LeaseHolder, LeaseOutcome, StoreError};
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Asks to be the only publisher for so long. `asking` tells others who it is.
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

    /// Holds the lease for its lifetime from now on; [`StoreError::LeaseLost`] if somebody has taken it over.
    pub async fn renew_lease(&self, lease: Lease) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, renew_lease(lease))
    }

    /// Gives the lease back, if it is still ours.
    pub async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, release_lease(lease))
    }

    /// The same store for the holder of a lease: what it writes of models and vectors fails with [`StoreError::LeaseLost`]
    /// once somebody has taken the lease over, and nothing is written then.
    #[must_use]
    pub fn under(&self, lease: Lease) -> Self {
        Self {
            lease: Some(lease),
            ..self.clone()
        }
    }
}

/// Whether the one row of the lease was found under our number.
pub(crate) fn still_ours(rows: u64) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::LeaseLost)
    }
}
