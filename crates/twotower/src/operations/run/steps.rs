//! The commands of a run, one after the other, each with its retries.

use super::backoff::Backoff;
use super::child::{End, Ended, Limits, run_command};
use super::error::RunError;
use super::journal::Journal;
use crate::config;
use crate::exit_code::{INTERRUPTED, REFUSED, UNAVAILABLE};
use crate::interrupt::Interrupt;
use crate::operations::{Job, Program};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a command is retried while the database or storage is out of reach, or another process
/// writes the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// As often as section `[run]` says.
    Attempts,
    /// Until the time limit of the run: too much work has been done to give up.
    WhileThereIsTime,
}

/// State shared by the commands of one run.
pub(super) struct Steps<'a> {
    pub(super) program: &'a Program,
    pub(super) settings: &'a config::Run,
    pub(super) interrupt: &'a Interrupt,
    pub(super) job: Job,
    pub(super) deadline: Instant,
    pub(super) journal: Journal<'a>,
    /// One, plus one for each command that was retried.
    pub(super) tries: u32,
    /// Exit code of the last command.
    pub(super) exit_code: Option<i32>,
    /// The version that the run works on.
    pub(super) model_version: Option<i64>,
}

impl Steps<'_> {
    /// Runs `twotower --json WORDS…` until it succeeds, fails for good or has used up its retries;
    /// returns its output.
    pub(super) async fn step(
        &mut self,
        words: &[&str],
        waiting: Waiting,
    ) -> Result<Value, RunError> {
        let pause = Duration::from_secs(self.settings.pause_seconds.into());
        let mut crashes = Backoff::of(self.settings.attempts, pause);
        let mut outages = match waiting {
            Waiting::Attempts => crashes.clone(),
            Waiting::WhileThereIsTime => Backoff::endless(pause),
        };
        let step = words.join(" ");
        loop {
            // A hung database must not delay a stop.
            tokio::select! {
                () = self.journal.begin() => {}
                () = self.interrupt.wait() => return Err(RunError::Interrupted),
            }
            let ended = self.once(&step, words).await?;
            self.exit_code = match ended.end {
                End::Exited(code) => Some(code),
                End::Killed | End::TimedOut | End::Interrupted => None,
            };
            let pause = match ended.end {
                End::Exited(0) => {
                    return serde_json::from_str(&ended.stdout).map_err(|_| RunError::Result {
                        step,
                        missing: "JSON",
                    });
                }
                // A terminal signals parent and child alike, and the child may exit first.
                End::Interrupted | End::Exited(INTERRUPTED) => return Err(RunError::Interrupted),
                End::TimedOut => return Err(self.timed_out(step)),
                End::Exited(UNAVAILABLE) => outages.next(),
                End::Killed => crashes.next(),
                End::Exited(_) => None,
            };
            let Some(pause) = pause else {
                return Err(failed(step, self.exit_code, ended.error));
            };
            if Instant::now() + pause >= self.deadline {
                return Err(self.timed_out(step));
            }
            let error = failed(step.clone(), self.exit_code, ended.error);
            tracing::warn!("{error}; the next try is in {:.0} s", pause.as_secs_f64());
            self.pause(pause).await?;
            self.tries += 1;
        }
    }

    async fn once(&self, step: &str, words: &[&str]) -> Result<Ended, RunError> {
        if self.interrupt.is_set() {
            return Err(RunError::Interrupted);
        }
        tracing::debug!("twotower {step}");
        let words = std::iter::once("--json").chain(words.iter().copied());
        let words: Vec<String> = words.map(Into::into).collect();
        let (program, interrupt) = (self.program.clone(), self.interrupt.clone());
        let limits = Limits {
            deadline: self.deadline,
            grace: Duration::from_secs(self.settings.grace_seconds.into()),
        };
        let ended =
            tokio::task::spawn_blocking(move || run_command(&program, &words, limits, &interrupt));
        let ended = ended.await.unwrap_or_else(|error| Err(error.into()));
        ended.map_err(|cause| RunError::Start {
            step: step.to_owned(),
            cause,
        })
    }

    /// Waits for `pause`, at most until the deadline; an interrupt ends it with an error.
    pub(super) async fn pause(&self, pause: Duration) -> Result<(), RunError> {
        let until = (Instant::now() + pause).min(self.deadline);
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => Ok(()),
            () = self.interrupt.wait() => Err(RunError::Interrupted),
        }
    }

    pub(super) fn timed_out(&self, step: String) -> RunError {
        RunError::TimedOut {
            step,
            job: self.job,
            minutes: self.settings.limit(self.job).as_secs() / 60,
        }
    }
}

fn failed(step: String, code: Option<i32>, message: Option<String>) -> RunError {
    let unsaid = match code {
        None => "the system may have run out of memory",
        Some(_) => "it did not say why",
    };
    let message = message.unwrap_or_else(|| unsaid.into());
    match code {
        Some(REFUSED) => RunError::Refused { message },
        _ => RunError::Failed {
            step,
            code,
            message,
        },
    }
}
