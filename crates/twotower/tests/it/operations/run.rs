//! `twotower run`: one run at a time, with a time limit and retries, and recorded.

use super::processes::{
    Locked, child_running, is_alive, log, send, silent_database, start, wait_for,
};
use crate::life_cycle::place::{Place, whole};
use crate::support::sql;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use twotower::config::{Config, Run};
use twotower::interrupt::Interrupt;
use twotower::operations::{self, End, Job, Limits, Program, RunError, RunOptions, run_command};
use twotower_store::{EventKind, EventPolicy, NewEvent, RunRecord, RunState, Store};
use uuid::Uuid;

/// Random weights would not pass the gate; pauses are only useful with real outages.
const QUICK: &str = "[update]\ngate = false\nlease_seconds = 1\n[run]\npause_seconds = 0\n";

/// The runs of a job, newest first.
pub(super) fn runs(place: &Place, job: &str) -> Vec<RunRecord> {
    let runs = place.store.runs(Some(job), 100);
    place.runtime.block_on(runs).unwrap()
}

/// Stores an event of 2023, beyond the retention period; returns the number of events.
pub(super) async fn old_event(store: &Store, by: Uuid, of: Uuid) -> u64 {
    let event = NewEvent {
        event_id: Uuid::from_u128(2023),
        kind: EventKind::Impression,
        video: of,
        watch_fraction: None,
        model_version: None,
        request_id: None,
        position: None,
        at_us: Some(1_700_000_000_000_000),
    };
    let recorded = store.record_events(by, &[event], EventPolicy::All).await;
    recorded.unwrap();
    store.count_events(Duration::ZERO).await.unwrap()
}

#[test]
fn an_update_is_written_down() {
    for place in Place::on_both() {
        place.configure(QUICK);
        let version = place.next_model();
        let ran = place.json("run update --due 1795651200000000");
        assert_eq!(
            (&ran["state"], &ran["attempts"], &ran["model_version"]),
            (&json!("succeeded"), &json!(1), &json!(version)),
            "{ran}"
        );
        assert_eq!(place.active(), Some(version));
        let [run] = &runs(&place, "update")[..] else {
            panic!("not one run")
        };
        assert_eq!(run.state, RunState::Succeeded);
        assert_eq!(run.due_at_us, Some(1_795_651_200_000_000));
        assert_eq!((run.exit_code, run.model_version), (Some(0), Some(version)));
        assert_eq!(run.message, None);
        // Nothing remains that would look like a run that was cut off.
        let lock = place.folder.path().join("state/update.lock");
        assert_eq!(fs::read(lock).unwrap(), b"");
    }
}

#[test]
fn what_fails_says_why_and_how() {
    let place = Place::on_sqlite();
    place.configure(QUICK);
    // There is no model.
    let said = place.refused("run update", 1);
    assert!(!said.contains("completed successfully"), "{said}");
    let run = &runs(&place, "update")[0];
    assert_eq!((run.state, run.exit_code), (RunState::Failed, Some(1)));
    let message = run.message.as_ref().unwrap();
    assert!(
        message.starts_with(
            "`twotower update` ended with exit code 1: look for models: models holds no model"
        ),
        "{message}"
    );
    assert!(said.contains(message), "{said}");
    // Once that is recorded, nothing remains that would look like a run that was cut off.
    let lock = place.folder.path().join("state/update.lock");
    assert_eq!(fs::read(lock).unwrap(), b"");
    for (line, expected) in [
        ("run update --fine-tune", "--fine-tune is of retrain alone"),
        ("run update --now", "--now is of maintain alone"),
    ] {
        let said = place.refused(line, 2);
        assert!(said.contains(expected), "{said}");
    }
    place.refused("run sleep", 2);
}

/// A personal address, which any user could put into an id.
const ADDRESS: &str = "bob@example.com";

/// Reads likes, of which two have invalid ids, and logs that without repeating them.
fn goes_on_without_two(place: &Place, likes: &str) {
    place.configure(&format!("{QUICK}[source]\nlikes = \"{likes}\""));
    for line in [
        "train --epochs 1 --embedding-dim 8 --batch-size 64 --threads 1",
        "run update",
        "export --to exported",
    ] {
        let output = place.run(line);
        let said = log(&output);
        assert!(output.status.success(), "{said}");
        let told = said.contains("an id in them is a text that is no UUID: 2 of likes");
        assert!(told && !said.contains(ADDRESS), "{line}: {said}");
    }
    assert_eq!(place.active(), Some(1));
}

#[test]
fn in_a_file_ids_that_are_none_stop_nothing() {
    let place = Place::on_sqlite();
    place.like_more();
    goes_on_without_two(
        &place,
        &format!(
            "SELECT * FROM (SELECT '{ADDRESS}' AS user_id, video_id, created_at FROM likes LIMIT 1) UNION ALL \
             SELECT * FROM (SELECT hex(user_id), 'film of {ADDRESS}', created_at FROM likes LIMIT 1) UNION ALL \
             SELECT hex(user_id), video_id, created_at FROM likes"
        ),
    );
}

/// Ids of type text may hold anything.
#[test]
fn ids_that_are_none_stop_nothing_and_stand_nowhere() {
    let place = Place::on_postgres();
    place.like_more();
    sql(
        &place.url,
        &format!(
            "CREATE TABLE favourites AS SELECT user_id::text AS member, video_id::text AS film, created_at::text AS since FROM likes;
             INSERT INTO favourites SELECT '{ADDRESS}', film, since FROM favourites LIMIT 1;
             INSERT INTO favourites SELECT member, 'film of {ADDRESS}', since FROM favourites LIMIT 1"
        ),
    );
    goes_on_without_two(
        &place,
        "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites",
    );

    // A value that cannot be converted ends the run, and its message does not repeat it either.
    sql(
        &place.url,
        &format!("INSERT INTO favourites SELECT member, film, '{ADDRESS}' FROM favourites LIMIT 1"),
    );
    let said = place.refused("run update", 1);
    assert!(
        said.contains("a value of the query for likes is not what is asked for (SQLSTATE 22007"),
        "{said}"
    );
    let messages = sql(&place.url, "SELECT message FROM twotower.job_runs");
    assert!(messages.contains("SQLSTATE 22007"), "{messages}");
    for text in [said, messages] {
        assert!(!text.contains(ADDRESS), "{text}");
    }
}

#[test]
fn a_refused_model_is_a_refused_run() {
    let place = Place::on_postgres();
    let version = place.next_model();
    place.configure("[run]\npause_seconds = 0");
    let said = place.refused("run update", 5);
    assert!(said.contains("was refused"), "{said}");
    let run = &runs(&place, "update")[0];
    assert_eq!((run.state, run.exit_code), (RunState::Refused, Some(5)));
    let message = run.message.as_ref().unwrap();
    assert!(
        message.starts_with(&format!("version {version} was refused"))
            && message.contains("REFUSED  "),
        "{message}"
    );
    assert_eq!(place.active(), None);
}

#[test]
fn a_publisher_elsewhere_is_left_alone() {
    let place = Place::on_postgres();
    place.configure(QUICK);
    place.next_model();
    let lease = place.take_lease(Duration::from_mins(5));
    let ran = place.json("run update");
    assert_eq!(ran["state"], "skipped");
    assert_eq!(ran["message"], "process 4711 on elsewhere publishes");
    assert_eq!(runs(&place, "update")[0].state, RunState::Skipped);
    assert_eq!(place.active(), None);
    place
        .runtime
        .block_on(place.store.release_lease(lease))
        .unwrap();
    // The lease of a killed publisher is waited for.
    place.take_lease(Duration::from_millis(500));
    assert_eq!(place.json("run update")["state"], "succeeded");
}

#[test]
fn two_at_once_are_one() {
    let place = Place::on_sqlite();
    place.configure(QUICK);
    place.next_model();
    let (_listener, hanging) = silent_database();
    let mut first = place.command("run update");
    let first = start({
        first.env("DATABASE_URL", hanging);
        first
    });
    let lock = place.folder.path().join("state/update.lock");
    wait_for("the lock", || {
        fs::read(&lock).ok().filter(|text| !text.is_empty())
    });
    let second = place.json("run update");
    assert_eq!(second["state"], "skipped");
    let message = second["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("process {} on ", first.id())),
        "{message}"
    );
    assert_eq!(runs(&place, "update")[0].state, RunState::Skipped);
    send("TERM", first.id());
    let first = first.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(130), "{}", log(&first));
    // Then it succeeds.
    assert_eq!(place.json("run update")["state"], "succeeded");
}

#[test]
fn a_command_that_is_killed_is_tried_again() {
    let place = Place::on_postgres();
    place.configure(QUICK);
    let version = place.next_model();
    let locked = Locked::vectors(&place.url);
    let run = start(place.command("--json run update"));
    let child = wait_for("the update", || child_running(run.id(), "update"));
    locked.wait_for_somebody();
    // As if the machine ran out of memory.
    send("KILL", child);
    drop(locked);
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", log(&output));
    assert!(
        log(&output).contains("`twotower update` ended by a signal"),
        "{}",
        log(&output)
    );
    let run = &runs(&place, "update")[0];
    assert_eq!((run.state, run.attempts), (RunState::Succeeded, 2));
    assert_eq!(place.active(), Some(version));
    assert!(place.vectors().contains(&whole(version)));
}

#[test]
fn a_database_that_is_away_is_waited_for_and_then_given_up() {
    let place = Place::on_postgres();
    place.configure("[update]\nattempts = 1\n[run]\npause_seconds = 0\nattempts = 2");
    let mut command = place.command("run update");
    // Nobody listens on this port.
    command.env("DATABASE_URL", "postgresql://postgres@127.0.0.1:9/postgres");
    let output = command.output().unwrap();
    let said = log(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("the next try is in"), "{said}");
    assert!(
        said.contains("the end of the run is not written down"),
        "{said}"
    );
}

fn home(place: &Place, run: Run) -> operations::Place {
    let config = Config::load(Some(&place.folder.path().join("twotower.toml"))).unwrap();
    operations::Place {
        db_url: place.url.clone(),
        config_file: Some(place.folder.path().join("twotower.toml")),
        config: Config { run, ..config },
    }
}

fn program(home: &operations::Place) -> Program {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_twotower"));
    Program::new(path, home, Vec::new(), None)
}

#[test]
fn a_run_whose_time_is_over_is_stopped_and_fails() {
    let place = Place::on_sqlite();
    let home = home(
        &place,
        Run {
            state_dir: place.folder.path().join("state"),
            // Less than the configuration allows.
            update_minutes: 0,
            ..Run::default()
        },
    );
    let options = RunOptions {
        job: Job::Update,
        fine_tune: false,
        now: false,
        due_at_us: None,
    };
    let interrupt = Interrupt::default();
    let program = program(&home);
    let ran = operations::run(&home, &program, options, &interrupt);
    let (report, error) = place.runtime.block_on(ran).unwrap();
    assert!(
        matches!(error, Some(RunError::TimedOut { .. })),
        "{error:?}"
    );
    assert_eq!((report.state, report.exit_code), (RunState::Failed, None));
    let run = &runs(&place, "update")[0];
    assert_eq!(run.state, RunState::Failed);
    assert!(
        run.message
            .as_ref()
            .unwrap()
            .contains("`update_minutes` of section [run]"),
        "{run:?}"
    );
}

#[test]
fn a_command_that_does_not_stop_is_killed() {
    let place = Place::on_sqlite();
    let (_listener, hanging) = silent_database();
    let mut home = home(&place, Run::default());
    home.db_url = hanging;
    let begun = Instant::now();
    let limits = Limits {
        deadline: begun + Duration::from_millis(300),
        grace: Duration::from_millis(300),
    };
    let words = ["update".to_owned()];
    let ended = run_command(&program(&home), &words, limits, &Interrupt::default()).unwrap();
    assert_eq!(ended.end, End::TimedOut);
}

#[test]
fn a_command_does_not_outlive_its_supervisor() {
    let place = Place::on_postgres();
    place.configure(QUICK);
    place.next_model();
    let locked = Locked::vectors(&place.url);
    let mut run = start(place.command("run update"));
    let child = wait_for("the update", || child_running(run.id(), "update"));
    locked.wait_for_somebody();
    run.kill().unwrap();
    run.wait().unwrap();
    // It finishes its step, and holds the job's lock until then.
    assert_eq!(place.json("run update")["state"], "skipped");
    drop(locked);
    wait_for("the end of the update", || (!is_alive(child)).then_some(()));
    assert_eq!(place.json("run update")["state"], "succeeded");
}

/// A note that cannot be written keeps no run from its work.
#[cfg(unix)]
#[test]
fn a_full_disk_does_not_keep_a_run_from_starting() {
    let place = Place::on_postgres();
    place.configure(QUICK);
    let version = place.next_model();
    let state = place.folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let command = place.command("run update");
    let output = Command::new("sh")
        // Every write to a file fails, in the children too.
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(place.folder.path())
        .env("DATABASE_URL", &place.url)
        .output()
        .unwrap();
    let said = log(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("it is not begun again"), "{said}");
    assert_eq!(place.active(), Some(version));
    assert_eq!(runs(&place, "update")[0].state, RunState::Succeeded);
}

#[test]
fn a_run_that_cannot_take_its_lock_is_written_down() {
    let place = Place::on_sqlite();
    place.configure(QUICK);
    fs::write(place.folder.path().join("state"), "no folder").unwrap();
    let said = place.refused("run update", 1);
    let run = &runs(&place, "update")[0];
    assert_eq!((run.state, run.exit_code), (RunState::Failed, None));
    let message = run.message.as_ref().unwrap();
    assert!(
        message.contains("`state_dir` of section [run] has to be a folder"),
        "{message}"
    );
    assert!(said.contains(message), "{said}");
}
