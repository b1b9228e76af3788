//! Runs that the scheduler has started.

use super::due::Due;
use crate::operations::program::{ChildSignal, send_signal};
use crate::operations::{Job, Program};
use std::collections::BTreeMap;
use std::io;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// At most one child per job.
#[derive(Debug, Default)]
pub(super) struct Children {
    running: BTreeMap<&'static str, (Job, Child)>,
    reopened: u32,
}

impl Children {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn is_running(&self, job: Job) -> bool {
        self.running.contains_key(job.name())
    }

    /// Starts `twotower run JOB` for a scheduled time. Its output goes where our log goes.
    pub(super) fn start(&mut self, program: &Program, job: Job, due: Due) -> io::Result<()> {
        let mut words = vec!["run".to_owned(), job.name().into()];
        words.extend(["--due".into(), due.at_us.to_string()]);
        if due.fine_tune {
            words.push("--fine-tune".into());
        }
        let child = program.command(words).stdout(Stdio::null()).spawn()?;
        self.running.insert(job.name(), (job, child));
        Ok(())
    }

    /// Children that have exited since the last call.
    pub(super) fn ended(&mut self) -> Vec<(Job, io::Result<ExitStatus>)> {
        let mut ended = Vec::new();
        for (job, child) in self.running.values_mut() {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => ended.push((*job, Ok(status))),
                Err(error) => ended.push((*job, Err(error))),
            }
        }
        for (job, _) in &ended {
            self.running.remove(job.name());
        }
        ended
    }

    /// Tells children that the log file was reopened.
    pub(super) fn reopen_log(&mut self, program: &Program) {
        if self.reopened != program.log_reopened() {
            self.reopened = program.log_reopened();
            self.send_signal(ChildSignal::ReopenLog);
        }
    }

    fn send_signal(&mut self, signal: ChildSignal) {
        for (_, child) in self.running.values_mut() {
            send_signal(child, signal);
        }
    }

    /// Asks all to stop, and kills those that have not after `grace`.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.send_signal(ChildSignal::Stop);
        let force_at = Instant::now() + grace;
        let mut forced = false;
        while !self.is_empty() {
            for (job, status) in self.ended() {
                super::say_ended(job, &status);
            }
            if !forced && Instant::now() >= force_at {
                forced = true;
                for (job, child) in self.running.values_mut() {
                    tracing::warn!("{job} does not stop, and is killed");
                    if let Err(error) = child.kill() {
                        tracing::warn!("{job} cannot be killed: {error}");
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
