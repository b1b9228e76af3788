//! From when on missed runs are caught up: the last scheduled times that were started, and when
//! each expression came into effect.

use super::due::EARLY_US;
use crate::config::Schedule;
use crate::files::{read_if_there, write_among_others};
use crate::operations::Job;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// One entry per job, in a file, so that a restarted scheduler knows what it has missed.
#[derive(Debug)]
pub(super) struct Watermarks {
    file: PathBuf,
    jobs: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The job's expressions as text: times of an earlier expression were not missed by this one.
    when: String,
    /// Microseconds since 1970.
    since_us: i64,
}

impl Watermarks {
    /// Reads the file. For a job that is new or has a new expression, nothing was missed up to now.
    pub(super) fn load(state_dir: &Path, schedule: &Schedule, now_us: i64) -> io::Result<Self> {
        let file = state_dir.join("schedule.json");
        let bytes = read_if_there(&file)?;
        let mut jobs: BTreeMap<String, Entry> = bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        for job in Job::ALL {
            let when = when(schedule, job);
            let known = jobs.get(job.name()).is_some_and(|entry| entry.when == when);
            if !known {
                let entry = Entry {
                    when,
                    since_us: now_us,
                };
                jobs.insert(job.name().into(), entry);
            }
        }
        let since = Self { file, jobs };
        since.save()?;
        Ok(since)
    }

    pub(super) fn of(&self, job: Job) -> i64 {
        self.jobs
            .get(job.name())
            .map_or(i64::MAX, |entry| entry.since_us)
    }

    /// Nothing up to `at_us` is caught up.
    pub(super) fn advance(&mut self, job: Job, at_us: i64) -> io::Result<()> {
        if let Some(entry) = self.jobs.get_mut(job.name())
            && entry.since_us < at_us
        {
            entry.since_us = at_us;
            self.save()?;
        }
        Ok(())
    }

    /// Corrects times left by a clock that was far ahead and has been set back: nothing was missed
    /// up to now.
    pub(super) fn not_far_after(&mut self, now_us: i64) -> io::Result<()> {
        let far = |entry: &&mut Entry| entry.since_us > now_us.saturating_add(EARLY_US);
        let mut changed = false;
        for entry in self.jobs.values_mut().filter(far) {
            entry.since_us = now_us;
            changed = true;
        }
        if changed { self.save() } else { Ok(()) }
    }

    fn save(&self) -> io::Result<()> {
        write_among_others(&self.file, &serde_json::to_vec(&self.jobs)?)
    }
}

fn when(schedule: &Schedule, job: Job) -> String {
    let expressions: &[&str] = match job {
        Job::Update => &[&schedule.update],
        Job::Retrain => &[&schedule.retrain, &schedule.fine_tune],
        Job::Maintain => &[&schedule.maintain],
        Job::Backup => &[&schedule.backup],
    };
    format!("{} {}", expressions.join(" | "), schedule.time_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_expression_has_missed_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let schedule = Schedule::default();
        let mut since = Watermarks::load(&state, &schedule, 100).unwrap();
        assert_eq!(since.of(Job::Update), 100);
        since.advance(Job::Update, 150).unwrap();
        since.advance(Job::Update, 120).unwrap();
        let later = Watermarks::load(&state, &schedule, 200).unwrap();
        assert_eq!((later.of(Job::Update), later.of(Job::Backup)), (150, 100));
        let changed = Schedule {
            update: "0 5 * * *".into(),
            ..schedule
        };
        let later = Watermarks::load(&state, &changed, 300).unwrap();
        assert_eq!((later.of(Job::Update), later.of(Job::Backup)), (300, 100));
    }

    #[test]
    fn a_clock_that_was_far_ahead_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let schedule = Schedule::default();
        let mut since = Watermarks::load(&state, &schedule, 100).unwrap();
        since.advance(Job::Update, 500 + EARLY_US).unwrap();
        since.advance(Job::Backup, 501 + EARLY_US).unwrap();
        since.not_far_after(500).unwrap();
        let later = Watermarks::load(&state, &schedule, 600).unwrap();
        // A run hours ahead was early, and is not repeated.
        assert_eq!(later.of(Job::Update), 500 + EARLY_US);
        assert_eq!((later.of(Job::Backup), later.of(Job::Maintain)), (500, 100));
    }
}
