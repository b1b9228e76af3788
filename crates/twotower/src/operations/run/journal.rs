//! The row that a run has in the database. Trouble with it is told and stops nothing.

use super::super::{Job, Place};
use super::patience::Patience;
use crate::jobs::host;
use std::time::Duration;
use twotower_store::{FinishedRun, NewRun, Store, StoreError, StoreKind};

/// Longer than any clean-up after a time limit: a run elsewhere that has been at work beyond it is dead.
const MARGIN: Duration = Duration::from_hours(1);

/// How long to try to write once: the job itself should not wait for its row.
const PATIENCE: Duration = Duration::from_secs(20);

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

    /// Writes down that the run has begun, unless that was done.
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

    /// Writes down how it ended; once more and once more while the database is away.
    pub(super) async fn finish(&mut self, finished: &FinishedRun, mut patience: Patience) {
        while let Err(error) = self.try_finish(finished).await {
            match patience.next() {
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

    /// Writes down that another process is at the same job.
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

/// One connection, for the rows of runs. The embedded store gets its schema at once, nobody else would give it one; a file that is not there
/// is not made.
pub(in crate::operations) async fn connect(place: &Place) -> Result<Store, StoreError> {
    let options = place.config.database.options();
    let store = Store::connect_existing(&place.db_url, options).await?;
    if store.kind() == StoreKind::Sqlite {
        store.migrate().await?;
    }
    Ok(store)
}

/// `work`, unless it takes too long.
pub(in crate::operations) async fn within<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let ended = tokio::time::timeout(PATIENCE, work).await;
    ended.unwrap_or(Err(StoreError::Deadline {
        operation: "job_runs",
        limit: PATIENCE,
    }))
}
