//! Runs of jobs.

use super::contract;
use std::time::Duration;
use twotower_store::{FinishedRun, NewRun, RunState, Store};

contract! {
    runs_are_written_down,
    a_run_that_was_killed_does_not_stay_at_work,
    a_run_that_is_left_to_another_disturbs_none,
    old_runs_go,
}

fn new(job: &str, host: &str) -> NewRun {
    NewRun {
        job: job.into(),
        due_at_us: Some(1_767_225_600_000_000),
        host: host.into(),
        pid: 7,
        presumed_dead: Duration::from_hours(1),
    }
}

fn failed(message: &str) -> FinishedRun {
    FinishedRun {
        state: RunState::Failed,
        attempts: 3,
        exit_code: Some(4),
        model_version: Some(12),
        message: Some(message.into()),
    }
}

async fn runs_are_written_down(store: &Store) {
    let first = store.begin_run(&new("update", "a")).await.unwrap();
    let [running] = &store.runs(Some("update"), 10).await.unwrap()[..] else {
        panic!("not one run")
    };
    assert_eq!(
        (running.id, running.state, running.due_at_us),
        (first, RunState::Running, Some(1_767_225_600_000_000))
    );
    assert_eq!(
        (running.finished_at_us, running.attempts, running.pid),
        (None, 1, 7)
    );
    store
        .finish_run(first, &failed(&format!("no\0 {}", "é".repeat(3000))))
        .await
        .unwrap();
    // The second call comes too late.
    store.finish_run(first, &failed("again")).await.unwrap();
    let second = store
        .begin_run(&NewRun {
            due_at_us: None,
            ..new("retrain", "a")
        })
        .await
        .unwrap();
    let runs = store.runs(None, 10).await.unwrap();
    assert_eq!(
        runs.iter().map(|run| run.id).collect::<Vec<_>>(),
        [second, first]
    );
    let ended = &runs[1];
    assert_eq!(
        (
            ended.state,
            ended.attempts,
            ended.exit_code,
            ended.model_version
        ),
        (RunState::Failed, 3, Some(4), Some(12))
    );
    let message = ended.message.as_ref().unwrap();
    assert!(
        message.starts_with("no é") && message.chars().count() == 2000,
        "{message}"
    );
    assert!(ended.finished_at_us.unwrap() >= ended.started_at_us);
    assert_eq!(store.runs(None, 1).await.unwrap().len(), 1);
}

async fn a_run_that_was_killed_does_not_stay_at_work(store: &Store) {
    let here = store.begin_run(&new("update", "a")).await.unwrap();
    let elsewhere = store.begin_run(&new("update", "b")).await.unwrap();
    let other_job = store.begin_run(&new("retrain", "a")).await.unwrap();
    store.begin_run(&new("update", "a")).await.unwrap();
    let states: Vec<_> = store
        .runs(None, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|run| (run.id, run.state))
        .collect();
    assert!(states.contains(&(here, RunState::Failed)), "{states:?}");
    assert!(
        states.contains(&(elsewhere, RunState::Running)),
        "{states:?}"
    );
    assert!(
        states.contains(&(other_job, RunState::Running)),
        "{states:?}"
    );
    let impatient = NewRun {
        presumed_dead: Duration::ZERO,
        ..new("update", "c")
    };
    store.begin_run(&impatient).await.unwrap();
    let running = store.runs(Some("update"), 10).await.unwrap();
    assert_eq!(
        running
            .iter()
            .filter(|run| run.state == RunState::Running)
            .count(),
        1
    );
}

async fn a_run_that_is_left_to_another_disturbs_none(store: &Store) {
    let at_work = store.begin_run(&new("update", "a")).await.unwrap();
    let new = new("update", "a");
    let skipped = store.skip_run(&new, "a is at it\0");
    skipped.await.unwrap();
    let runs = store.runs(None, 10).await.unwrap();
    let states: Vec<_> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Skipped, RunState::Running]);
    assert_eq!(runs[1].id, at_work);
    assert_eq!(runs[0].message.as_deref(), Some("a is at it"));
    assert!(runs[0].finished_at_us.is_some() && runs[0].due_at_us == runs[1].due_at_us);
}

async fn old_runs_go(store: &Store) {
    let ended = store.begin_run(&new("update", "a")).await.unwrap();
    store.finish_run(ended, &failed("x")).await.unwrap();
    let running = store.begin_run(&new("update", "a")).await.unwrap();
    assert_eq!(store.prune_runs(Duration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(store.prune_runs(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(store.runs(None, 10).await.unwrap()[0].id, running);
}
