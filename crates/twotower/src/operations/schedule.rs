//! Runs each job when it is due, in the foreground.

mod due;

mod since;

mod children;

mod trouble;

use super::round::round;
use super::run::{connect, cut_off, within};
use super::{Job, Place, Plan, Program};
use crate::jobs::{Interrupt, now_us};
use anyhow::Context;
use children::Children;
pub(super) use due::EARLY_US;
use due::{Due, done_until, due};
use serde::Serialize;
use since::Since;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::task::JoinHandle;
use trouble::Trouble;
use twotower_store::{Store, StoreError};

/// Between two looks at the clock, which may have jumped meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// Between two tries to reach a database that is away.
const RECONNECT: Duration = Duration::from_secs(15);

/// Runs of a job to look at: more than can come between two of the schedule's.
const RECENT_RUNS: u32 = 100;

/// For commands to end after their supervisor was asked to, beyond the time that it gives them.
const MARGIN: Duration = Duration::from_secs(10);

/// How to keep a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleOptions {
    /// Run what is due now, and end.
    pub once: bool,
}

/// Runs that were started and have ended, each named by its job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// Well.
    pub succeeded: Vec<&'static str>,
    /// Not well. Each has said why.
    pub failed: Vec<&'static str>,
}

/// What `twotower schedule --once` fails of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// See [`Ran::failed`].
    #[error("failed: {}", .0.join(", "))]
    Failed(Vec<&'static str>),
}

/// Keeps the schedule until `interrupt`; then ends what is at work, gently. With `once`, says what ran.
///
/// # Errors
/// If the schedule or the folder of its state cannot be used; with `once`, if the database is away.
pub async fn schedule(
    place: &Place,
    program: &Program,
    options: ScheduleOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Ran> {
    let state_dir = &place.config.run.state_dir;
    let since = Since::load(state_dir, &place.config.schedule, now_us()).with_context(|| {
        format!(
            "{}: `state_dir` of section [run] has to be a folder that this user may write to",
            state_dir.join("schedule.json").display()
        )
    })?;
    let mut scheduler = Scheduler {
        place,
        program,
        plan: Plan::new(&place.config.schedule)?,
        since,
        children: Children::default(),
        lock_trouble: Trouble::default(),
        store: None,
        ask_at: Instant::now(),
        away: false,
        ran: Ran::default(),
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
    since: Since,
    children: Children,
    lock_trouble: Trouble,
    store: Option<Store>,
    /// When the database may be asked again.
    ask_at: Instant,
    away: bool,
    ran: Ran,
    /// When the last round of looking and telling began, microseconds since 1970.
    looked_at_us: i64,
    round: Option<JoinHandle<()>>,
}

impl Scheduler<'_> {
    async fn forever(&mut self, interrupt: &Interrupt) {
        while !interrupt.is_set() {
            self.look_after_children();
            self.look_around();
            // Nobody asks for them.
            self.ran = Ran::default();
            // The database may be slow to say that it is away; who asks to stop does not wait for that.
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
            tokio::time::sleep(LOOK).await;
        }
        if let Some(round) = self.round.take() {
            round.abort();
        }
        self.stop().await;
    }

    async fn once(&mut self, interrupt: &Interrupt) -> Result<(), StoreError> {
        let started = self.start_what_is_due().await;
        if self.children.is_empty() {
            // Each run does this at its end.
            round(self.place).await;
        }
        started?;
        while !self.children.is_empty() && !interrupt.is_set() {
            tokio::time::sleep(LOOK / 10).await;
            self.look_after_children();
        }
        self.stop().await;
        Ok(())
    }

    async fn stop(&mut self) {
        let grace = Duration::from_secs(self.place.config.run.grace_seconds.into());
        self.children.stop(grace + MARGIN).await;
    }

    /// Begins a round of looking and telling every few minutes by the clock, unless the last one is not over.
    fn look_around(&mut self) {
        let every_us = i64::from(self.place.config.alerts.every_minutes) * 60_000_000;
        let now_us = now_us();
        // Within the interval, a clock that was set back included.
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

    /// Starts each job that is due, unless it is at work, or somebody else has done it.
    async fn start_what_is_due(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.since.not_far_after(now_us()) {
            tracing::warn!("that the clock was set back cannot be kept: {error}");
        }
        for job in Job::ALL {
            if self.children.is_running(job) || self.due(job).is_none() {
                continue;
            }
            if Instant::now() < self.ask_at {
                // As it was when it was asked last.
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
        if let Some(error) = self.lock_trouble.news(job, left.as_ref().err()) {
            tracing::warn!("the lock of {job} cannot be read: {error}");
        }
        let left = left.ok().flatten();
        let limits = (run.attempts, now_us());
        due(&self.plan, job, self.since.of(job), left.as_ref(), limits)
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
        if let Err(error) = self.since.advance(job, at_us) {
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
        Ok(status) if status.code() == Some(130) => tracing::warn!("{job} was interrupted"),
        Ok(status) => tracing::error!("{job} has failed: {status}"),
        Err(error) => tracing::error!("{job} cannot be waited for: {error}"),
    }
}
