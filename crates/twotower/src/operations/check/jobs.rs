//! Scheduled jobs: whether they ran, how they ended, how long they took.

use super::Finding;
use super::finding::{judged, span};
use super::round::Round;
use crate::config::Checks;
use crate::operations::schedule::EARLY_US;
use crate::operations::{Job, Plan};
use twotower_core::time::MINUTE_US;
use twotower_store::{RunRecord, RunState, Store, StoreError};

/// Number of recent runs read per job: many of them may have been skipped, and say nothing.
const RUNS: u32 = 50;

const OWN: [&str; 4] = ["run-failed", "run-missed", "run-slow", "backup-age"];

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    if !round.wants_any(&OWN) {
        return Vec::new();
    }
    let runs = match round.ask(read(store)).await {
        Ok(runs) => runs,
        Err(why) => return why.of_each(&OWN),
    };
    let schedule = &round.place.config.schedule;
    match Plan::new(schedule) {
        Ok(plan) => judge(&plan, &runs, round.now_us, round.checks()),
        // The configuration is validated when it is read; this is for one built in code.
        Err(error) => OWN
            .map(|check| Finding::failed(check, error.to_string(), "correct section [schedule]"))
            .into(),
    }
}

/// The latest runs of each job, newest first.
async fn read(store: &Store) -> Result<Vec<(Job, Vec<RunRecord>)>, StoreError> {
    let mut all = Vec::new();
    for job in Job::ALL {
        all.push((job, store.runs(Some(job.name()), RUNS).await?));
    }
    Ok(all)
}

fn judge(
    plan: &Plan,
    jobs: &[(Job, Vec<RunRecord>)],
    now_us: i64,
    checks: &Checks,
) -> Vec<Finding> {
    let first_us = jobs
        .iter()
        .flat_map(|(_, runs)| runs)
        .map(|run| run.started_at_us)
        .filter(|&at| at <= latest_us(now_us))
        .min();
    let mut found = Vec::new();
    for (job, runs) in jobs {
        found.push(failed(*job, runs));
        found.push(missed(
            plan,
            *job,
            runs,
            now_us,
            first_us,
            checks.missed_minutes,
        ));
        match job {
            Job::Update => found.push(slow(runs, now_us, checks.update_minutes)),
            Job::Backup => found.push(backup_age(
                plan,
                runs,
                now_us,
                first_us,
                checks.backup_hours,
            )),
            Job::Retrain | Job::Maintain => {}
        }
    }
    found
}

/// As in the scheduler, a later time was left by a clock that has been set back since, and is
/// ignored.
fn latest_us(now_us: i64) -> i64 {
    now_us.saturating_add(EARLY_US)
}

fn failed(job: Job, runs: &[RunRecord]) -> Finding {
    let check = "run-failed";
    let ended = |run: &&RunRecord| !matches!(run.state, RunState::Running | RunState::Skipped);
    let Some(last) = runs.iter().find(ended) else {
        return Finding::passed(check, format!("no {job} has ended yet")).about(job.name());
    };
    let code = last
        .exit_code
        .map_or(String::new(), |code| format!(", exit code {code}"));
    let message = last.message.as_deref().unwrap_or("no word why");
    let finding = if last.state == RunState::Failed {
        let evidence = format!(
            "the last {job} failed on {} after {} tries{code}: {message}",
            last.host, last.attempts
        );
        Finding::failed(
            check,
            evidence,
            format!("mend what it says, then `{}`", by_hand(job)),
        )
    } else {
        Finding::passed(check, format!("the last {job} {}", last.state))
    };
    finding.about(job.name())
}

/// Nothing that was due before the first run of any job is missed: there was no scheduler yet.
fn missed(
    plan: &Plan,
    job: Job,
    runs: &[RunRecord],
    now_us: i64,
    first_us: Option<i64>,
    grace_minutes: u32,
) -> Finding {
    let check = "run-missed";
    let Some(due) = plan.last_due(job, now_us - i64::from(grace_minutes) * MINUTE_US) else {
        return Finding::passed(check, format!("{job} is not scheduled, or was never due"))
            .about(job.name());
    };
    let Some(first_us) = first_us else {
        let fix = "set up the schedule: docs/deployment.md; `twotower run update` is a first run";
        return Finding::skipped(check, "no job has run in this database yet", fix)
            .about(job.name());
    };
    let counted = due..=latest_us(now_us);
    let since_due = |run: &&RunRecord| {
        run.due_at_us.is_some_and(|at| counted.contains(&at))
            || counted.contains(&run.started_at_us)
    };
    let begun = runs
        .iter()
        .filter(since_due)
        .any(|run| !is_untimely(job, run));
    if begun || due < first_us {
        return Finding::passed(
            check,
            format!("{job} was last due {} ago", span(now_us - due)),
        )
        .about(job.name());
    }
    let due_ago = span(now_us - due);
    let finding = if let Some(untimely) = runs.iter().find(since_due) {
        let message = untimely.message.as_deref().unwrap_or("it was not the time");
        let evidence = format!(
            "{job} was due {due_ago} ago, and what was started has done nothing: {message}"
        );
        let fix = format!(
            "`{}` makes up for it, and so does the next run within the window; if it happens every night, set `time_zone` of section [schedule] \
             to that of whatever starts the jobs, or move `window` of section [maintenance]",
            by_hand(job)
        );
        Finding::failed(check, evidence, fix)
    } else {
        let last = runs
            .iter()
            .find(|run| run.started_at_us <= latest_us(now_us));
        let last = last.map_or("has never run".to_owned(), |run| {
            format!("last ran {} ago", span(now_us - run.started_at_us))
        });
        let evidence = format!("{job} was due {due_ago} ago and has not begun; it {last}");
        let fix = format!(
            "look whether the schedule runs (`systemctl list-timers 'twotower*'`, `crontab -l`, `twotower schedule`), then `{}`",
            by_hand(job)
        );
        Finding::failed(check, evidence, fix)
    };
    finding.about(job.name())
}

/// A command that does the work of `job` at any time, and records it.
fn by_hand(job: Job) -> String {
    let flag = if job == Job::Maintain { " --now" } else { "" };
    format!("twotower run {job}{flag}")
}

/// Whether it was started outside of the maintenance window, and so did nothing. A run that left
/// the work to another process has no exit code.
fn is_untimely(job: Job, run: &RunRecord) -> bool {
    job == Job::Maintain && run.state == RunState::Skipped && run.exit_code.is_some()
}

/// Judges the last update that did its work, and one that is running.
fn slow(runs: &[RunRecord], now_us: i64, bound_minutes: u32) -> Finding {
    let check = "run-slow";
    let last = runs.iter().find_map(|run| match run.state {
        RunState::Succeeded => Some((run.finished_at_us? - run.started_at_us, "took")),
        RunState::Running => Some((now_us - run.started_at_us, "has been at work for")),
        _ => None,
    });
    let Some((took, words)) = last else {
        return Finding::skipped(check, "no update has succeeded yet", "twotower run update");
    };
    let evidence = format!(
        "the last update {words} {}, less than {bound_minutes} min is expected",
        span(took)
    );
    let fix = "look at its log for the step that takes long; then `twotower maintain --now`, more `index_memory_mb`, or a faster database";
    judged(
        check,
        took < i64::from(bound_minutes) * MINUTE_US,
        evidence,
        fix,
    )
}

fn backup_age(
    plan: &Plan,
    runs: &[RunRecord],
    now_us: i64,
    first_us: Option<i64>,
    bound_hours: u32,
) -> Finding {
    let check = "backup-age";
    let fix = "twotower run backup";
    let scheduled = plan.next_due(Job::Backup, now_us).is_some();
    let done = runs
        .iter()
        .filter(|run| run.state == RunState::Succeeded)
        .filter_map(|run| run.finished_at_us)
        .find(|&at| at <= latest_us(now_us));
    let bound_us = i64::from(bound_hours) * 60 * MINUTE_US;
    match done {
        Some(at) => {
            let evidence = format!(
                "the last backup was made {} ago, within {bound_hours} h is expected",
                span(now_us - at)
            );
            judged(check, now_us - at <= bound_us, evidence, fix)
        }
        None if !scheduled => {
            let evidence = "no backups are scheduled here; is the database backed up otherwise?";
            Finding::skipped(check, evidence, "set `backup` of section [schedule]")
        }
        None if first_us.is_none_or(|first| now_us - first <= bound_us) => {
            Finding::warned(check, "no backup has been made yet", fix)
        }
        None => Finding::failed(
            check,
            "no backup has succeeded yet, though jobs have run for longer than that should take",
            fix,
        ),
    }
}

#[cfg(test)]
mod tests;
