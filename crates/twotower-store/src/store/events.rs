//! What users do with what they are shown: recorded, kept for a while, and counted by the arms of experiments.

use super::{BULK_TIMEOUT, Engine, GRACE, Store};
use crate::snapshot::check_time;
use crate::{
    Arm, ArmTotals, EventKind, EventPolicy, EventsRecorded, Experiment, ExperimentRecord,
    ExperimentUser, InteractionKind, NewEvent, NewExperiment, StoreError,
};
use std::time::Duration;
use uuid::Uuid;

#[expect(
    clippy::missing_errors_doc,
    reason = "every operation fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Records one like or skip of now by the store's clock; returns whether it was new. `Ok(false)` also if it was there.
    /// An unknown video is [`StoreError::UnknownVideo`], a user who was erased [`StoreError::ErasedUser`], and what is read from a table of the
    /// application's own [`StoreError::ReadElsewhere`].
    pub async fn record(
        &self,
        kind: InteractionKind,
        user: Uuid,
        video: Uuid,
    ) -> Result<bool, StoreError> {
        self.refuse_elsewhere(kind)?;
        call!(
            self,
            self.options.statement_timeout,
            record(kind, user, video)
        )
    }

    /// Records what a user did and was shown, by `policy`, and writes their likes and skips, all in one transaction.
    ///
    /// An event whose id the user has sent before changes nothing and counts as a duplicate. With each is recorded the user's arm in the
    /// experiment that ran when it happened. [`StoreError::UnknownVideo`] and [`StoreError::ErasedUser`] write nothing, nor does
    /// [`StoreError::ReadElsewhere`]: a like that is written where nobody reads it would let a liked video come back.
    pub async fn record_events(
        &self,
        user: Uuid,
        events: &[NewEvent],
        policy: EventPolicy,
    ) -> Result<EventsRecorded, StoreError> {
        for event in events {
            for (kind, interaction) in [
                (EventKind::Like, InteractionKind::Like),
                (EventKind::Skip, InteractionKind::Skip),
            ] {
                if event.kind == kind {
                    self.refuse_elsewhere(interaction)?;
                }
                if let Some(at_us) = event.at_us.filter(|_| event.kind == kind) {
                    check_time(interaction, at_us)?;
                }
            }
        }
        call!(
            self,
            self.options.statement_timeout,
            record_events(user, events, policy)
        )
    }

    /// Events older than `age`.
    pub async fn count_events(&self, age: Duration) -> Result<u64, StoreError> {
        let age_us = age.as_micros() as i64;
        call!(self, BULK_TIMEOUT, count_events(age_us))
    }

    /// Deletes events older than `age`, at most `limit` a call; returns how many.
    pub async fn delete_events(&self, age: Duration, limit: u32) -> Result<u64, StoreError> {
        let age_us = age.as_micros() as i64;
        call!(self, BULK_TIMEOUT, delete_events(age_us, limit))
    }

    /// The experiment that runs, if one does.
    pub async fn running_experiment(&self) -> Result<Option<Experiment>, StoreError> {
        call!(self, self.options.statement_timeout, running_experiment())
    }

    /// Starts an experiment and returns its number; [`StoreError::ExperimentRuns`] while another one runs. The versions are the
    /// caller's to check.
    pub async fn start_experiment(&self, new: &NewExperiment) -> Result<i64, StoreError> {
        call!(
            self,
            self.options.statement_timeout,
            start_experiment(self.lease, new)
        )
    }

    /// Ends the experiment that runs; returns its number, `None` if there is none.
    pub async fn stop_experiment(&self) -> Result<Option<i64>, StoreError> {
        call!(self, self.options.statement_timeout, stop_experiment())
    }

    /// All experiments, the latest first.
    pub async fn experiments(&self) -> Result<Vec<ExperimentRecord>, StoreError> {
        call!(self, self.options.statement_timeout, experiments())
    }

    /// Hands over what each user of an arm did, in no order, and returns what the arm was shown as a whole.
    pub async fn for_each_experiment_user(
        &self,
        id: i64,
        arm: Arm,
        each: &mut (dyn FnMut(ExperimentUser) + Send),
    ) -> Result<ArmTotals, StoreError> {
        call!(self, BULK_TIMEOUT, for_each_experiment_user(id, arm, each))
    }
}
