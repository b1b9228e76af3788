use super::*;
use crate::config::Schedule;
use crate::operations::check::Verdict;
use twotower_core::time::HOUR_US;

/// 2026-01-10T00:00:00Z
const DAY: i64 = 1_768_003_200_000_000;
const YEAR_US: i64 = 365 * 24 * HOUR_US;

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
    let missed = |runs: &[RunRecord], now| verdict(&look(runs, now), "run-missed", Some("update"));
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
    // A run recorded by a clock that was a year ahead.
    let ahead = RunRecord {
        due_at_us: Some(due + YEAR_US),
        ..run(Job::Update, RunState::Succeeded, due + YEAR_US, MINUTE_US)
    };
    let asked_ahead = RunRecord {
        started_at_us: yesterday.started_at_us,
        ..ahead.clone()
    };
    // On its own it does not count as the first run either.
    let alone = std::slice::from_ref(&ahead);
    assert_eq!(missed(alone, due + HOUR_US), Verdict::Skipped);
    for ahead in [ahead, asked_ahead] {
        let runs = [ahead, yesterday.clone()];
        assert_eq!(missed(&runs, due + HOUR_US), Verdict::Failed);
    }
    // Moments before the first run are not missed.
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
        let finding =
            found.find(|it| (it.check, it.subject.as_deref()) == ("run-missed", Some("maintain")));
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
    // Started by hand outside of the window.
    let now_done = run(
        Job::Maintain,
        RunState::Succeeded,
        due + 4 * HOUR_US + MINUTE_US,
        MINUTE_US,
    );
    let found = missed(&[now_done, untimely.clone(), yesterday.clone()]);
    assert_eq!(found.verdict, Verdict::Passed);
    // Started by hand after the scheduled one.
    let timely = run(Job::Maintain, RunState::Succeeded, due, MINUTE_US);
    assert_eq!(missed(&[untimely, timely]).verdict, Verdict::Passed);
    // Left to another process.
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
        let finding = found.find(|it| (it.check, it.subject.as_deref()) == (check, Some(subject)));
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
    // Recorded by a clock that was a year ahead.
    let runs = [-365 * 24, 37].map(|hours| {
        let at = DAY - hours * HOUR_US;
        run(Job::Backup, RunState::Succeeded, at, MINUTE_US)
    });
    assert_eq!(
        verdict(&look(&runs, DAY), "backup-age", None),
        Verdict::Failed
    );
    assert_eq!(
        verdict(&look(&runs[..1], DAY), "backup-age", None),
        Verdict::Warned
    );
}
