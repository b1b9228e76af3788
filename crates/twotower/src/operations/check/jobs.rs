//! What runs by itself: whether it ran, how it ended, how long it took.

use super::Finding;
use super::finding::{judged, span};
use super::round::Round;
use crate::config::Checks;
use crate::operations::schedule::EARLY_US;
use crate::operations::{Job, Plan};
use twotower_store::{RunRecord, RunState, Store, StoreError};

/// Of each job, among which the last one that tells something is looked for: a job may have been skipped many times.
const RUNS: u32 = 50;

const MINUTE_US: i64 = 60_000_000;

const OWN: [&str; 4] = ["run-failed", "run-missed", "run-slow", "backup-age"];

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    if !round.wants_any(&OWN) {
        return Vec::new();
    }
    let runs = match round.within(read(store)).await {
        Ok(Ok(runs)) => runs,
        Ok(Err(error)) => return OWN.map(|check| Finding::unseen(check, &error)).into(),
        Err(_) => {
            return OWN
                .map(|check| Finding::skipped(check, "no answer in time", ""))
                .into();
        }
    };
    let schedule = &round.place.config.schedule;
    match Plan::new(schedule) {
        Ok(plan) => judge(&plan, &runs, round.now_us, round.checks()),
        // Refused when the configuration was read; said again for who made one by hand.
        Err(error) => OWN
            .map(|check| Finding::failed(check, error.to_string(), "correct section [schedule]"))
            .into(),
    }
}

/// The latest runs of each job, the latest first.
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

/// Nothing is missed that was due before the first run of any job: then nobody had set up a schedule yet.
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
    // As the scheduler, which lets a moment far ahead of the clock count for nothing.
    let counted = due..=now_us.saturating_add(EARLY_US);
    let since_due = |run: &&RunRecord| {
        run.due_at_us.is_some_and(|at| counted.contains(&at)) || run.started_at_us >= due
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
        let last = runs.first().map_or("has never run".to_owned(), |run| {
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

/// What does the work of `job` at any time, and is written down.
fn by_hand(job: Job) -> String {
    let flag = if job == Job::Maintain { " --now" } else { "" };
    format!("twotower run {job}{flag}")
}

/// Whether it was started outside of the window, where upkeep does nothing. One that left the work to another process has no exit code.
fn is_untimely(job: Job, run: &RunRecord) -> bool {
    job == Job::Maintain && run.state == RunState::Skipped && run.exit_code.is_some()
}

/// The last update that did its work; and one that is at work now.
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
    let done = runs.iter().find(|run| run.state == RunState::Succeeded);
    let bound_us = i64::from(bound_hours) * 60 * MINUTE_US;
    match done.and_then(|run| run.finished_at_us) {
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
mod tests {
    use super::*;
    use crate::config::Schedule;
    use crate::operations::check::Verdict;

    /// 2026-01-10T00:00:00Z
    const DAY: i64 = 1_768_003_200_000_000;
    const HOUR_US: i64 = 60 * MINUTE_US;

    fn run(job: Job, state: RunState, started_at_us: i64, took_us: i64) -> RunRecord {
        RunRecord {
            id: 1,
            job: job.name().into(),
            state,
            due_at_us: None,
            started_at_us,
            finished_at_us: (state != RunState::Running).then_some(started_at_us + took_us),
            host: "a".into(),
            pid: 1,
            attempts: 3,
            exit_code: Some(4),
            model_version: None,
            message: Some("the database is away".into()),
        }
    }

    fn look(runs: &[RunRecord], now_us: i64) -> Vec<Finding> {
        let plan = Plan::new(&Schedule::default()).unwrap();
        let of = |job: Job| {
            runs.iter()
                .filter(|run| run.job == job.name())
                .cloned()
                .collect()
        };
        let jobs: Vec<_> = Job::ALL.map(|job| (job, of(job))).into();
        judge(&plan, &jobs, now_us, &Checks::default())
    }

    fn verdict(found: &[Finding], check: &str, subject: Option<&str>) -> Verdict {
        let finding = found
            .iter()
            .find(|finding| finding.check == check && finding.subject.as_deref() == subject);
        finding.unwrap().verdict
    }

    #[test]
    fn the_last_run_that_ended_counts() {
        let failed = run(Job::Update, RunState::Failed, DAY + 2 * HOUR_US, HOUR_US);
        let at_work = run(Job::Update, RunState::Running, DAY + 3 * HOUR_US, 0);
        let skipped = run(Job::Update, RunState::Skipped, DAY + 3 * HOUR_US, 0);
        let found = look(&[at_work, skipped, failed.clone()], DAY + 3 * HOUR_US);
        assert_eq!(
            verdict(&found, "run-failed", Some("update")),
            Verdict::Failed
        );
        let said = &found
            .iter()
            .find(|finding| finding.verdict == Verdict::Failed)
            .unwrap()
            .evidence;
        assert!(
            said.contains("3 tries, exit code 4: the database is away"),
            "{said}"
        );
        let mended = run(
            Job::Update,
            RunState::Succeeded,
            DAY + 4 * HOUR_US,
            MINUTE_US,
        );
        let found = look(&[mended, failed], DAY + 5 * HOUR_US);
        assert_eq!(
            verdict(&found, "run-failed", Some("update")),
            Verdict::Passed
        );
    }

    #[test]
    fn a_run_that_did_not_begin_is_missed_after_a_while() {
        let missed =
            |runs: &[RunRecord], now| verdict(&look(runs, now), "run-missed", Some("update"));
        let yesterday = run(
            Job::Update,
            RunState::Succeeded,
            DAY - 22 * HOUR_US,
            MINUTE_US,
        );
        let due = DAY + 2 * HOUR_US;
        assert_eq!(missed(&[], due + HOUR_US), Verdict::Skipped);
        assert_eq!(
            missed(std::slice::from_ref(&yesterday), due + 29 * MINUTE_US),
            Verdict::Passed
        );
        assert_eq!(
            missed(std::slice::from_ref(&yesterday), due + 30 * MINUTE_US),
            Verdict::Failed
        );
        let late = run(Job::Update, RunState::Running, due + 10 * MINUTE_US, 0);
        assert_eq!(
            missed(&[late, yesterday.clone()], due + HOUR_US),
            Verdict::Passed
        );
        let early = RunRecord {
            due_at_us: Some(due),
            ..run(Job::Update, RunState::Succeeded, due - MINUTE_US, MINUTE_US)
        };
        let runs = [early, yesterday.clone()];
        assert_eq!(missed(&runs, due + HOUR_US), Verdict::Passed);
        // By a clock that was a year ahead.
        let ahead = RunRecord {
            due_at_us: Some(due + 365 * 24 * HOUR_US),
            ..yesterday.clone()
        };
        let runs = [ahead, yesterday];
        assert_eq!(missed(&runs, due + HOUR_US), Verdict::Failed);
        // What was due before anything ran was not missed.
        let first = run(
            Job::Update,
            RunState::Succeeded,
            due + 5 * HOUR_US,
            MINUTE_US,
        );
        assert_eq!(
            verdict(
                &look(&[first], due + 6 * HOUR_US),
                "run-missed",
                Some("backup")
            ),
            Verdict::Passed
        );
    }

    #[test]
    fn upkeep_outside_of_its_window_is_missed() {
        let due = DAY + 4 * HOUR_US + 30 * MINUTE_US;
        let now = due + 5 * HOUR_US;
        let missed = |runs: &[RunRecord]| {
            let found = look(runs, now);
            let mut found = found.into_iter();
            let finding = found
                .find(|it| (it.check, it.subject.as_deref()) == ("run-missed", Some("maintain")));
            finding.unwrap()
        };
        let yesterday = run(
            Job::Maintain,
            RunState::Succeeded,
            due - 24 * HOUR_US,
            MINUTE_US,
        );
        let untimely = RunRecord {
            exit_code: Some(0),
            message: Some("outside of the window".into()),
            ..run(Job::Maintain, RunState::Skipped, due + 4 * HOUR_US, 0)
        };
        let caught_up = RunRecord {
            due_at_us: Some(due),
            ..untimely.clone()
        };
        for untimely in [untimely.clone(), caught_up] {
            let finding = missed(&[untimely, yesterday.clone()]);
            assert_eq!(finding.verdict, Verdict::Failed);
            assert!(
                finding.evidence.contains("outside of the window"),
                "{}",
                finding.evidence
            );
            for said in ["time_zone", "`twotower run maintain --now`"] {
                assert!(finding.fix.contains(said), "{}", finding.fix);
            }
        }
        // By hand, whatever the hour.
        let now_done = run(
            Job::Maintain,
            RunState::Succeeded,
            due + 4 * HOUR_US + MINUTE_US,
            MINUTE_US,
        );
        let found = missed(&[now_done, untimely.clone(), yesterday.clone()]);
        assert_eq!(found.verdict, Verdict::Passed);
        // By hand, after the one of the night.
        let timely = run(Job::Maintain, RunState::Succeeded, due, MINUTE_US);
        assert_eq!(missed(&[untimely, timely]).verdict, Verdict::Passed);
        // Another process is at it.
        let left = RunRecord {
            exit_code: None,
            ..run(Job::Maintain, RunState::Skipped, due, 0)
        };
        assert_eq!(missed(&[left, yesterday]).verdict, Verdict::Passed);
    }

    #[test]
    fn what_is_advised_does_the_work_at_any_hour() {
        let fix = |runs: &[RunRecord], check, subject| {
            let found = look(runs, DAY + 9 * HOUR_US);
            let mut found = found.into_iter();
            let finding =
                found.find(|it| (it.check, it.subject.as_deref()) == (check, Some(subject)));
            finding.unwrap().fix
        };
        for (job, command) in [
            (Job::Maintain, "`twotower run maintain --now`"),
            (Job::Update, "`twotower run update`"),
        ] {
            let failed = run(job, RunState::Failed, DAY + 5 * HOUR_US, MINUTE_US);
            let said = fix(&[failed], "run-failed", job.name());
            assert!(said.contains(command), "{said}");
            let last_night = run(job, RunState::Succeeded, DAY - 24 * HOUR_US, MINUTE_US);
            let said = fix(&[last_night], "run-missed", job.name());
            assert!(said.contains(command), "{said}");
        }
    }

    #[test]
    fn slow_updates_and_old_backups_are_told() {
        let slow = |minutes| {
            let update = run(Job::Update, RunState::Succeeded, DAY, minutes * MINUTE_US);
            verdict(&look(&[update], DAY + 24 * HOUR_US), "run-slow", None)
        };
        assert_eq!((slow(29), slow(30)), (Verdict::Passed, Verdict::Failed));
        let backup = |hours, state| {
            let backup = run(Job::Backup, state, DAY - hours * HOUR_US, MINUTE_US);
            verdict(&look(&[backup], DAY), "backup-age", None)
        };
        assert_eq!(backup(36, RunState::Succeeded), Verdict::Passed);
        assert_eq!(backup(37, RunState::Succeeded), Verdict::Failed);
        assert_eq!(backup(37, RunState::Failed), Verdict::Failed);
        assert_eq!(backup(1, RunState::Failed), Verdict::Warned);
    }
}
