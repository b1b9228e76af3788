//! Maintenance of tables and indexes.

use super::{BULK_TIMEOUT, Engine, GRACE, Store};
use crate::{Health, StepLimits, StoreError, Upkeep};
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// State of everything that can be maintained.
    pub async fn health(&self) -> Result<Health, StoreError> {
        call!(self, BULK_TIMEOUT, health())
    }

    /// Performs one step; returns the number of rows that it deleted. [`StoreError::Busy`] if it
    /// gave up waiting for a lock, [`StoreError::Cancelled`] if its time was up. Both leave
    /// everything unchanged, except that an interrupted rebuild leaves a partial index, which
    /// [`Store::health`] shows as a remnant.
    pub async fn maintain(&self, step: &Upkeep, limits: StepLimits) -> Result<u64, StoreError> {
        let limit: Duration = limits.statement;
        call!(self, limit, maintain(step, limits))
    }
}
