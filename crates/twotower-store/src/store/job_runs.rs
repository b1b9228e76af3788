//! Runs of scheduled jobs.

use super::{Engine, GRACE, Store};
use crate::{FinishedRun, NewRun, RunRecord, StoreError};
use std::time::Duration;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Records the start of a run and returns its id. Earlier runs of the same job on the same
    /// machine that seem to be in progress are recorded as killed: the caller holds the machine's
    /// lock of that job.
    pub async fn begin_run(&self, run: &NewRun) -> Result<i64, StoreError> {
        call!(self, self.options.statement_timeout, begin_run(run))
    }

    /// Records a run that was skipped because another process was doing the work. Runs in progress
    /// stay as they are.
    pub async fn skip_run(&self, run: &NewRun, message: &str) -> Result<(), StoreError> {
        call!(self, self.options.statement_timeout, skip_run(run, message))
    }

    /// Records the end of a run. Does nothing if it has ended already.
    pub async fn finish_run(&self, id: i64, finished: &FinishedRun) -> Result<(), StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            finish_run(id, finished)
        )
    }

    /// The latest `limit` runs of a job, or of all jobs, latest first.
    pub async fn runs(&self, job: Option<&str>, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        let rows = call!(self, self.options.statement_timeout, runs(job, limit))?;
        rows.into_iter().map(RunRecord::try_from).collect()
    }

    /// Deletes runs that ended more than `age` ago; returns their number.
    pub async fn prune_runs(&self, age: Duration) -> Result<u64, StoreError> {
        call!(self, self.options.statement_timeout, prune_runs(age))
    }
}
