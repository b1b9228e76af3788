//! The row of a run in the database. Its errors are logged and do not stop the run.

use super::super::{Job, Place};
use super::backoff::Backoff;
use crate::jobs::host;
use std::time::Duration;
use twotower_store::{FinishedRun, NewRun, Store, StoreError, StoreKind};

/// Added to a run's time limit, and longer than any clean-up: a run elsewhere that has been active
/// for longer is dead.
const MARGIN: Duration = Duration::from_hours(1);

/// Time limit of one try to write: the job should not wait for its row.
const TRY_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Journal<'a> {
    place: &'a Place,
    run: NewRun,
    store: Option<Store>,
    id: Option<i64>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(place: &'a Place, job: Job, due_at_us: Option<i64>) -> Self {
        Self {
            place,
            run: NewRun {
                job: job.name().into(),
                due_at_us,
                host: host(),
                pid: std::process::id(),
                presumed_dead: place.config.run.limit(job) + MARGIN,
            },
            store: None,
            id: None,
        }
    }

    /// Records that the run has begun, unless it is recorded already.
    pub(super) async fn begin(&mut self) {
        if self.id.is_some() {
            return;
        }
        match within(self.try_begin()).await {
            Ok(id) => self.id = Some(id),
            Err(error) => {
                tracing::warn!("the run is not written down yet: {error}");
            }
        }
    }

    async fn try_begin(&mut self) -> Result<i64, StoreError> {
        let run = self.run.clone();
        self.store().await?.begin_run(&run).await
    }

    /// Records how the run ended; retries while the database is away.
    pub(super) async fn finish(&mut self, finished: &FinishedRun, mut backoff: Backoff) {
        while let Err(error) = self.try_finish(finished).await {
            match backoff.next() {
                Some(pause) if error.may_pass() || error.is_deadline() => {
                    tracing::warn!(
                        "the end of the run is not written down yet, the next try is in about {:.0} s: {error}",
                        pause.as_secs_f64()
                    );
                    tokio::time::sleep(pause).await;
                }
                _ => return tracing::warn!("the end of the run is not written down: {error}"),
            }
        }
    }

    async fn try_finish(&mut self, finished: &FinishedRun) -> Result<(), StoreError> {
        let id = match self.id {
            Some(id) => id,
            None => within(self.try_begin()).await?,
        };
        self.id = Some(id);
        within(async { self.store().await?.finish_run(id, finished).await }).await
    }

    /// Records that another process does the same job.
    pub(super) async fn skip(&mut self, message: &str) {
        let run = self.run.clone();
        let written = within(async { self.store().await?.skip_run(&run, message).await });
        if let Err(error) = written.await {
            tracing::warn!("that the run was skipped is not written down: {error}");
        }
    }

    async fn store(&mut self) -> Result<Store, StoreError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = connect(self.place).await?;
        self.store = Some(store.clone());
        Ok(store)
    }
}

/// One connection for the rows of runs. The embedded store is migrated here, because nothing else
/// may have done so; a missing file is not created.
pub(in crate::operations) async fn connect(place: &Place) -> Result<Store, StoreError> {
    let options = place.config.database.options();
    let store = Store::connect_existing(&place.db_url, options).await?;
    if store.kind() == StoreKind::Sqlite {
        store.migrate().await?;
    }
    Ok(store)
}

/// Runs `work` with a time limit.
pub(in crate::operations) async fn within<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let ended = tokio::time::timeout(TRY_TIMEOUT, work).await;
    ended.unwrap_or(Err(StoreError::Deadline {
        operation: "job_runs",
        limit: TRY_TIMEOUT,
    }))
}
