//! Runs each job when it is due, in the foreground.

mod due;

mod watermarks;

mod children;

mod logged_errors;

use super::round::round;
use super::run::{connect, cut_off, within};
use super::{Job, Place, Plan, Program};
use crate::exit_code::INTERRUPTED;
use crate::interrupt::Interrupt;
use crate::time::now_us;
use anyhow::Context;
use children::Children;
pub(super) use due::EARLY_US;
use due::{Due, History, done_until, due};
use logged_errors::LoggedErrors;
use serde::Serialize;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::task::JoinHandle;
use twotower_store::{Store, StoreError};
use watermarks::Watermarks;

/// Interval at which the clock is read; it may have jumped meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Pause between tries to reach a database that is away.
const RECONNECT: Duration = Duration::from_secs(15);

/// Number of runs read per job: more than can occur between two scheduled ones.
const RECENT_RUNS: u32 = 100;

/// Added to the time that supervisors give their commands to stop.
const MARGIN: Duration = Duration::from_secs(10);

/// Options of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleOptions {
    /// Run what is due now, then exit.
    pub once: bool,
}

/// Runs that were started and have ended, by job name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScheduleReport {
    /// Successful ones.
    pub succeeded: Vec<&'static str>,
    /// Failed ones. Each has logged the reason.
    pub failed: Vec<&'static str>,
}

/// Error of `twotower schedule --once`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// See [`ScheduleReport::failed`].
    #[error("failed: {}", .0.join(", "))]
    Failed(Vec<&'static str>),
}

/// Runs the schedule until `interrupt`, then stops running jobs gracefully. With `once`, returns
/// what ran.
///
/// # Errors
/// If the schedule or the state folder cannot be used; with `once`, if the database is away.
pub async fn schedule(
    place: &Place,
    program: &Program,
    options: ScheduleOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<ScheduleReport> {
    let state_dir = &place.config.run.state_dir;
    let watermarks =
        Watermarks::load(state_dir, &place.config.schedule, now_us()).with_context(|| {
            format!(
                "{}: `state_dir` of section [run] has to be a folder that this user may write to",
                state_dir.join("schedule.json").display()
            )
        })?;
    let mut scheduler = Scheduler {
        place,
        program,
        plan: Plan::new(&place.config.schedule)?,
        watermarks,
        children: Children::default(),
        lock_errors: LoggedErrors::default(),
        store: None,
        ask_at: Instant::now(),
        away: false,
        ran: ScheduleReport::default(),
        looked_at_us: 0,
        round: None,
    };
    scheduler.say_next(&Job::ALL);
    if options.once {
        scheduler.once(interrupt).await?;
    } else {
        scheduler.forever(interrupt).await;
    }
    Ok(scheduler.ran)
}

struct Scheduler<'a> {
    place: &'a Place,
    program: &'a Program,
    plan: Plan,
    watermarks: Watermarks,
    children: Children,
    lock_errors: LoggedErrors,
    store: Option<Store>,
    /// Earliest time of the next query of the database.
    ask_at: Instant,
    away: bool,
    ran: ScheduleReport,
    /// When the last round of checks and alerts began, microseconds since 1970.
    looked_at_us: i64,
    round: Option<JoinHandle<()>>,
}

impl Scheduler<'_> {
    async fn forever(&mut self, interrupt: &Interrupt) {
        while !interrupt.is_set() {
            self.look_after_children();
            self.look_around();
            // Only needed with `once`.
            self.ran = ScheduleReport::default();
            // A database that is away may be slow to fail; a stop request does not wait for it.
            let started = tokio::select! {
                started = self.start_what_is_due() => started,
                () = interrupt.wait() => break,
            };
            if let Err(error) = started
                && !std::mem::replace(&mut self.away, true)
            {
                tracing::warn!(
                    "what is due waits until the database can be asked what was done: {error}"
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        if let Some(round) = self.round.take() {
            round.abort();
        }
        self.stop().await;
    }

    async fn once(&mut self, interrupt: &Interrupt) -> Result<(), StoreError> {
        let started = self.start_what_is_due().await;
        if self.children.is_empty() {
            // Otherwise each run does this at its end.
            round(self.place).await;
        }
        while !self.children.is_empty() && !interrupt.is_set() {
            tokio::time::sleep(POLL_INTERVAL / 10).await;
            self.look_after_children();
        }
        self.stop().await;
        // What was started before the database went away is not cut off by it.
        started
    }

    async fn stop(&mut self) {
        let grace = Duration::from_secs(self.place.config.run.grace_seconds.into());
        self.children.stop(grace + MARGIN).await;
    }

    /// Starts a round of checks and alerts if the interval has passed by the clock, unless the last
    /// one is still running.
    fn look_around(&mut self) {
        let every_us = i64::from(self.place.config.alerts.every_minutes) * 60_000_000;
        let now_us = now_us();
        // A clock that was set back counts as outside of the interval.
        let soon = (self.looked_at_us..self.looked_at_us + every_us).contains(&now_us);
        if every_us == 0 || soon || self.round.as_ref().is_some_and(|it| !it.is_finished()) {
            return;
        }
        self.looked_at_us = now_us;
        let place = self.place.clone();
        self.round = Some(tokio::spawn(async move { round(&place).await }));
    }

    fn look_after_children(&mut self) {
        self.children.reopen_log(self.program);
        for (job, status) in self.children.ended() {
            say_ended(job, &status);
            if status.is_ok_and(|status| status.success()) {
                self.ran.succeeded.push(job.name());
            } else {
                self.ran.failed.push(job.name());
            }
            self.say_next(&[job]);
        }
    }

    /// Starts each job that is due, unless it is running or has been done elsewhere.
    async fn start_what_is_due(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.watermarks.not_far_after(now_us()) {
            tracing::warn!("that the clock was set back cannot be kept: {error}");
        }
        for job in Job::ALL {
            if self.children.is_running(job) || self.due(job).is_none() {
                continue;
            }
            if Instant::now() < self.ask_at {
                // The last answer of the database is recent enough.
                continue;
            }
            let runs = match self.runs(job).await {
                Ok(runs) => runs,
                Err(error) => {
                    self.store = None;
                    self.ask_at = Instant::now() + RECONNECT;
                    return Err(error);
                }
            };
            if std::mem::take(&mut self.away) {
                tracing::info!("the database answers again");
            }
            if let Some(until) = done_until(&runs, now_us()) {
                self.advance(job, until);
            }
            if let Some(due) = self.due(job) {
                self.start(job, due);
            }
        }
        Ok(())
    }

    fn due(&mut self, job: Job) -> Option<Due> {
        let run = &self.place.config.run;
        let left = cut_off(&run.state_dir, job);
        if let Some(error) = self.lock_errors.news(job, left.as_ref().err()) {
            tracing::warn!("the lock of {job} cannot be read: {error}");
        }
        let left = left.ok().flatten();
        let history = History {
            done_until_us: self.watermarks.of(job),
            cut_off: left.as_ref(),
            max_starts: run.attempts,
        };
        due(&self.plan, job, &history, now_us())
    }

    async fn runs(&mut self, job: Job) -> Result<Vec<twotower_store::RunRecord>, StoreError> {
        within(async {
            if self.store.is_none() {
                self.store = Some(connect(self.place).await?);
            }
            match &self.store {
                Some(store) => store.runs(Some(job.name()), RECENT_RUNS).await,
                None => Ok(Vec::new()),
            }
        })
        .await
    }

    fn start(&mut self, job: Job, due: Due) {
        tracing::info!("{job} begins, due {}", self.plan.local(due.at_us));
        match self.children.start(self.program, job, due) {
            Ok(()) => self.advance(job, due.at_us),
            Err(error) => {
                self.ask_at = Instant::now() + RECONNECT;
                tracing::error!("{job} cannot be started: {error}");
            }
        }
    }

    fn advance(&mut self, job: Job, at_us: i64) {
        if let Err(error) = self.watermarks.advance(job, at_us) {
            tracing::warn!("what was started cannot be kept: {error}");
        }
    }

    fn say_next(&self, jobs: &[Job]) {
        for &job in jobs {
            if let Some(at_us) = self.plan.next_due(job, now_us()) {
                tracing::info!("the next {job} is due {}", self.plan.local(at_us));
            } else {
                tracing::info!("{job} is never due");
            }
        }
    }
}

fn say_ended(job: Job, status: &io::Result<ExitStatus>) {
    match status {
        Ok(status) if status.success() => tracing::info!("{job} has ended well"),
        Ok(status) if status.code() == Some(INTERRUPTED) => tracing::warn!("{job} was interrupted"),
        Ok(status) => tracing::error!("{job} has failed: {status}"),
        Err(error) => tracing::error!("{job} cannot be waited for: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use twotower_core::time::DAY_US;

    /// A run that has been started ends by itself, although the database cannot be asked about the
    /// next job.
    #[tokio::test]
    async fn a_database_that_goes_away_cuts_nothing_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.run.state_dir = folder.path().to_owned();
        let place = Place {
            // Nobody listens on this port.
            db_url: "postgresql://postgres@127.0.0.1:9/postgres".into(),
            config_file: None,
            config,
        };
        let program = Program::new("false".into(), &place, Vec::new(), None);
        // Last seen so long ago that a backup was missed.
        let seen_us = now_us() - 2 * DAY_US;
        let schedule = &place.config.schedule;
        let mut scheduler = Scheduler {
            place: &place,
            program: &program,
            plan: Plan::new(schedule).unwrap(),
            watermarks: Watermarks::load(folder.path(), schedule, seen_us).unwrap(),
            children: Children::default(),
            lock_errors: LoggedErrors::default(),
            store: None,
            ask_at: Instant::now(),
            away: false,
            ran: ScheduleReport::default(),
            looked_at_us: 0,
            round: None,
        };
        let due = scheduler.due(Job::Backup).unwrap();
        let started = scheduler.children.start(&program, Job::Update, due);
        started.unwrap();
        let ended = scheduler.once(&Interrupt::default()).await;
        assert!(ended.is_err());
        assert_eq!(scheduler.ran.failed, [Job::Update.name()]);
    }
}
