//! Whether a job is due: the schedule compared with past runs.

use crate::operations::run::Note;
use crate::operations::{Job, Plan};
use twotower_core::time::DAY_US;
use twotower_store::{RunRecord, RunState};

/// A run for a time this far ahead was done early, by a clock that was hours ahead. One for a time
/// further ahead was recorded by a clock that has been set back since, and is ignored: otherwise
/// the job would not run until then.
pub(in crate::operations) const EARLY_US: i64 = DAY_US;

/// A scheduled time that a job is to be run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// Microseconds since 1970.
    pub(super) at_us: i64,
    /// For retraining: fine-tune.
    pub(super) fine_tune: bool,
}

/// What is known of a job's earlier runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct History<'a> {
    /// Nothing was missed up to this moment, microseconds since 1970.
    pub(super) done_until_us: i64,
    /// The last run, if it was cut off.
    pub(super) cut_off: Option<&'a Note>,
    /// At most this many starts for one moment.
    pub(super) max_starts: u32,
}

/// The moment that `job` is due for at `now_us`, if there is one. However many moments were missed,
/// it is run once, for the latest. A run that was cut off is due again.
pub(super) fn due(plan: &Plan, job: Job, history: &History<'_>, now_us: i64) -> Option<Due> {
    let History {
        done_until_us,
        cut_off,
        max_starts,
    } = *history;
    let at_us = plan.last_due(job, now_us)?;
    let cut_off = cut_off.filter(|note| note.starts < max_starts);
    if at_us > done_until_us {
        let training = plan.last_training(now_us);
        // A training that was missed or cut off is not made up for by a later fine-tuning.
        let is_cut_off =
            |at| cut_off.is_some_and(|note| !note.fine_tune && note.due_at_us >= Some(at));
        let is_trained = training.is_none_or(|at| at <= done_until_us && !is_cut_off(at));
        return Some(Due {
            at_us,
            fine_tune: job == Job::Retrain && is_trained,
        });
    }
    cut_off
        .filter(|note| note.due_at_us == Some(at_us))
        .map(|note| Due {
            at_us,
            fine_tune: note.fine_tune,
        })
}

/// The latest scheduled time for which a job was run, by whomever. A run without a scheduled time
/// counts from its start, unless it did not do its work. Times further ahead than [`EARLY_US`] are
/// ignored.
pub(super) fn done_until(runs: &[RunRecord], now_us: i64) -> Option<i64> {
    let until = |run: &RunRecord| match (run.due_at_us, run.state) {
        (Some(due), _) => Some(due),
        (None, RunState::Failed | RunState::Skipped) => None,
        (None, RunState::Running | RunState::Succeeded | RunState::Refused) => {
            Some(run.started_at_us)
        }
    };
    runs.iter()
        .filter_map(until)
        .filter(|&at_us| at_us <= now_us.saturating_add(EARLY_US))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Schedule;
    use twotower_core::time::HOUR_US;

    /// Thursday, 2026-11-26, 00:00 UTC.
    const MIDNIGHT: i64 = 1_795_651_200_000_000;

    fn plan() -> Plan {
        Plan::new(&Schedule {
            fine_tune: "0 3 * * 1-6".into(),
            ..Schedule::default()
        })
        .unwrap()
    }

    fn asked(job: Job, done_until_us: i64, now_us: i64) -> Option<(i64, bool)> {
        let history = History {
            done_until_us,
            cut_off: None,
            max_starts: 3,
        };
        let due = due(&plan(), job, &history, now_us)?;
        Some((due.at_us, due.fine_tune))
    }

    #[test]
    fn what_was_missed_is_run_once() {
        let two = MIDNIGHT + 2 * HOUR_US;
        // On time, and only once.
        assert_eq!(asked(Job::Update, two - DAY_US, two - 1), None);
        assert_eq!(asked(Job::Update, two - DAY_US, two), Some((two, false)));
        assert_eq!(asked(Job::Update, two, two + 1), None);
        // The scheduler was off for three nights.
        assert_eq!(
            asked(Job::Update, two - 4 * DAY_US, two + HOUR_US),
            Some((two, false))
        );
        // Run by hand after the scheduled time, and before it.
        assert_eq!(asked(Job::Update, two + 1, two + HOUR_US), None);
        assert_eq!(
            asked(Job::Update, two - 1, two + HOUR_US),
            Some((two, false))
        );
        // The clock was set back.
        assert_eq!(asked(Job::Update, two, two - HOUR_US), None);
    }

    #[test]
    fn a_training_that_was_missed_is_not_fine_tuned_away() {
        let three = MIDNIGHT + 3 * HOUR_US;
        assert_eq!(
            asked(Job::Retrain, three - DAY_US, three),
            Some((three, true))
        );
        let sunday = three - 4 * DAY_US;
        assert_eq!(asked(Job::Retrain, sunday, three), Some((three, true)));
        assert_eq!(asked(Job::Retrain, sunday - 1, three), Some((three, false)));
    }

    #[test]
    fn a_training_that_was_cut_off_is_not_fine_tuned_away() {
        let three = MIDNIGHT + 3 * HOUR_US;
        let [sunday, monday] = [three + 3 * DAY_US, three + 4 * DAY_US];
        let fine_tunes = |due_at_us, fine_tune, starts| {
            let note = note(due_at_us, fine_tune, starts);
            let history = History {
                done_until_us: sunday,
                cut_off: Some(&note),
                max_starts: 3,
            };
            let due = due(&plan(), Job::Retrain, &history, monday).unwrap();
            assert_eq!(due.at_us, monday);
            due.fine_tune
        };
        assert!(!fine_tunes(Some(sunday), false, 1));
        // Tried often enough.
        assert!(fine_tunes(Some(sunday), false, 3));
        // A fine-tuning, a training that a later one has replaced, and one by hand.
        assert!(fine_tunes(Some(sunday), true, 1));
        assert!(fine_tunes(Some(sunday - DAY_US), false, 1));
        assert!(fine_tunes(None, false, 1));
    }

    fn note(due_at_us: Option<i64>, fine_tune: bool, starts: u32) -> Note {
        Note {
            host: "a".into(),
            pid: 1,
            since_us: MIDNIGHT,
            due_at_us,
            fine_tune,
            starts,
        }
    }

    #[test]
    fn a_run_that_was_cut_off_is_due_again_a_few_times() {
        let two = MIDNIGHT + 2 * HOUR_US;
        let note = |due_at_us, starts| note(due_at_us, false, starts);
        let again = |note: &Note, now_us| {
            let history = History {
                done_until_us: two,
                cut_off: Some(note),
                max_starts: 3,
            };
            due(&plan(), Job::Update, &history, now_us)
        };
        let expected = Some(Due {
            at_us: two,
            fine_tune: false,
        });
        assert_eq!(again(&note(Some(two), 1), two + HOUR_US), expected);
        assert_eq!(again(&note(Some(two), 2), two + HOUR_US), expected);
        assert_eq!(again(&note(Some(two), 3), two + HOUR_US), None);
        // A run by hand, and one of the day before.
        assert_eq!(again(&note(None, 1), two + HOUR_US), None);
        assert_eq!(again(&note(Some(two - DAY_US), 1), two + HOUR_US), None);
    }

    #[test]
    fn whoever_ran_it_has_run_it() {
        let run = |due_at_us, started_at_us, state| RunRecord {
            id: 1,
            job: "update".into(),
            state,
            due_at_us,
            started_at_us,
            finished_at_us: None,
            host: "a".into(),
            pid: 1,
            attempts: 1,
            exit_code: None,
            model_version: None,
            message: None,
        };
        assert_eq!(done_until(&[], 100), None);
        let runs = [
            run(Some(5), 90, RunState::Failed),
            run(None, 7, RunState::Succeeded),
            run(None, 80, RunState::Failed),
            run(None, 70, RunState::Skipped),
        ];
        assert_eq!(done_until(&runs, 100), Some(7));
        let skipped = run(Some(9), 90, RunState::Skipped);
        assert_eq!(done_until(&[skipped], 100), Some(9));
        // Recorded by a clock that was hours ahead, and by one that was days ahead.
        let [hours, days] = [100 + 5 * HOUR_US, 100 + 2 * DAY_US];
        let runs = [hours, days].map(|due| run(Some(due), 90, RunState::Succeeded));
        assert_eq!(done_until(&runs, 100), Some(hours));
    }
}
