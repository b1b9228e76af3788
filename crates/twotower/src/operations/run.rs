//! Unattended runs of a job: one at a time, with a time limit, with retries, and recorded in the
//! database.

mod last_error;

mod child;

mod backoff;

mod lock;

mod journal;

mod error;

mod steps;

mod update;

mod prune;

mod retrain;

mod maintain;

pub use child::{End, Ended, Limits, run_command};
pub use error::RunError;

pub(super) use journal::{connect, within};
pub(super) use lock::{Note, cut_off};
pub(crate) use retrain::left_to_retraining;

use super::round::round;
use super::{Job, Place, Program};
use crate::config::{self, Config};
use crate::interrupt::Interrupt;
use backoff::Backoff;
use journal::Journal;
use lock::{JobLock, LockOutcome};
use serde::Serialize;
use std::time::{Duration, Instant};
use steps::{Steps, Waiting};
use twotower_store::{FinishedRun, RunState};

/// Time to record the end of a run after this process was asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Which job to run, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOptions {
    /// The job.
    pub job: Job,
    /// Whether retraining continues from the active model with the new data.
    pub fine_tune: bool,
    /// Whether maintenance runs outside of its window too.
    pub now: bool,
    /// The scheduled time that the run is for, microseconds since 1970.
    pub due_at_us: Option<i64>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// Name of the job.
    pub job: &'static str,
    /// Its final state.
    pub state: RunState,
    /// One, plus one for each command that was retried.
    pub attempts: u32,
    /// Exit code of the last command; `None` if a signal killed it.
    pub exit_code: Option<i32>,
    /// The version that it worked on.
    pub model_version: Option<i64>,
    /// The reason, if it did not succeed.
    pub message: Option<String>,
    /// Wall time, seconds.
    pub seconds: f64,
}

impl RunReport {
    fn new(job: Job, finished: FinishedRun, started: Instant) -> Self {
        Self {
            job: job.name(),
            state: finished.state,
            attempts: finished.attempts,
            exit_code: finished.exit_code,
            model_version: finished.model_version,
            message: finished.message,
            seconds: started.elapsed().as_secs_f64(),
        }
    }
}

/// Result of the steps.
enum Outcome {
    /// All done.
    Done,
    /// All done but the report on the model; says why.
    WithoutReport(String),
    /// There was nothing to do; says why.
    NothingNew(String),
    /// Another process does the same work, or it is outside of the window; says which.
    Skipped(String),
}

/// Runs a job. Returns a report, and the error if it failed.
///
/// # Errors
/// If the state folder cannot be used.
pub async fn run(
    place: &Place,
    program: &Program,
    options: RunOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<(RunReport, Option<RunError>)> {
    let started = Instant::now();
    let (job, settings) = (options.job, &place.config.run);
    let mut journal = Journal::new(place, job, options.due_at_us);
    let note = Note::of_this_process(options.due_at_us, options.fine_tune);
    let lock = match JobLock::acquire(&settings.state_dir, job, note) {
        Ok(LockOutcome::Taken(lock)) => lock,
        Ok(LockOutcome::Held(holder)) => {
            let message = holder.map_or("another process is at it".into(), |note| note.to_string());
            tracing::info!("{job} is skipped: {message}");
            journal.skip(&message).await;
            let skipped = without_steps(RunState::Skipped, message);
            return Ok((RunReport::new(job, skipped, started), None));
        }
        Err(error) => {
            let failed = without_steps(RunState::Failed, format!("{error:#}"));
            write_down(&mut journal, &failed, settings, interrupt).await;
            return Err(error);
        }
    };
    let mut steps = Steps {
        program,
        settings,
        interrupt,
        job,
        deadline: started + settings.limit(job),
        journal,
        tries: 1,
        exit_code: None,
        model_version: None,
    };
    let outcome = perform(&mut steps, &place.config, options).await;
    let finished = finished(&steps, &outcome);
    // A failed run is over only when no more can be written of it: if this process is killed or
    // asked to stop before, the run was cut off and its work remains to be done.
    let over_already = matches!(outcome, Ok(_) | Err(RunError::Refused { .. }));
    if over_already {
        end(&lock, job);
    }
    let is_through = write_down(&mut steps.journal, &finished, settings, interrupt).await;
    if is_through && !over_already && !matches!(outcome, Err(RunError::Interrupted)) {
        end(&lock, job);
    }
    if let Err(error) = lock.give_back() {
        tracing::warn!("the lock of {job} is given back when this process ends: {error}");
    }
    if !interrupt.is_set() {
        round(place).await;
    }
    Ok((RunReport::new(job, finished, started), outcome.err()))
}

async fn perform(
    steps: &mut Steps<'_>,
    config: &Config,
    options: RunOptions,
) -> Result<Outcome, RunError> {
    match options.job {
        Job::Update => update::update(steps, config).await,
        Job::Retrain => retrain::retrain(steps, config, options.fine_tune).await,
        Job::Maintain => maintain::maintain(steps, config, options.now).await,
        Job::Backup => {
            let step = steps.step(&[Job::Backup.name()], Waiting::Attempts).await;
            step.map(|_| Outcome::Done)
        }
    }
}

/// Marks the run as not cut off.
fn end(lock: &JobLock, job: Job) {
    if let Err(error) = lock.done() {
        tracing::warn!("that {job} has ended is not kept: {error}");
    }
}

/// Records the end of the run, or gives that up after the tries of section `[run]`. Returns whether
/// it came so far: a stop request does not wait for a database that is away.
async fn write_down(
    journal: &mut Journal<'_>,
    finished: &FinishedRun,
    settings: &config::Run,
    interrupt: &Interrupt,
) -> bool {
    let pause = Duration::from_secs(settings.pause_seconds.into());
    let written = journal.finish(finished, Backoff::of(settings.attempts, pause));
    let asked_to_stop = async {
        interrupt.wait().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = written => true,
        () = asked_to_stop => {
            tracing::warn!("the end of the run is not written down");
            false
        }
    }
}

/// The end of a run that did not come to its steps.
fn without_steps(state: RunState, message: String) -> FinishedRun {
    FinishedRun {
        state,
        attempts: 1,
        exit_code: None,
        model_version: None,
        message: Some(message),
    }
}

fn finished(steps: &Steps<'_>, outcome: &Result<Outcome, RunError>) -> FinishedRun {
    let (state, message) = match outcome {
        Ok(Outcome::Done) => (RunState::Succeeded, None),
        Ok(Outcome::WithoutReport(message) | Outcome::NothingNew(message)) => {
            (RunState::Succeeded, Some(message.clone()))
        }
        Ok(Outcome::Skipped(message)) => (RunState::Skipped, Some(message.clone())),
        Err(error @ RunError::Refused { .. }) => (RunState::Refused, Some(error.to_string())),
        Err(error) => (RunState::Failed, Some(error.to_string())),
    };
    FinishedRun {
        state,
        attempts: steps.tries,
        exit_code: steps.exit_code,
        model_version: steps.model_version,
        message,
    }
}
