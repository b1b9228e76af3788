//! Upkeep of tables and indexes.

use super::{BULK_TIMEOUT, Engine, GRACE, Store};
use crate::{Health, StepLimits, StoreError, Upkeep};
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// What there is to look after, and in which state.
    pub async fn health(&self) -> Result<Health, StoreError> {
        call!(self, BULK_TIMEOUT, health())
    }

    /// Does one thing; returns the rows that it deleted. [`StoreError::Busy`] if it gave way to somebody who kept a table locked,
    /// [`StoreError::Cancelled`] if its time was over; both leave everything as it was, but for an index that was being rebuilt, whose half
    /// [`Store::health`] shows as a leftover.
    pub async fn maintain(&self, step: &Upkeep, limits: StepLimits) -> Result<u64, StoreError> {
        let limit: Duration = limits.statement;
        call!(self, limit, maintain(step, limits))
    }
}
