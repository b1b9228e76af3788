//! `twotower schedule`: due jobs run once, and missed ones are made up for once.

use super::processes::{Locked, child_running, is_alive, log, send, start, wait_for};
use super::run::runs;
use crate::life_cycle::place::{Place, whole};
use serde_json::json;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use twotower_core::time::DAY_US;
use twotower_store::{NewRun, RunState};

/// Only updates, at midnight.
const SETTINGS: &str = "[update]\ngate = false\nlease_seconds = 1\n[run]\npause_seconds = 0\n[schedule]\nupdate = \"0 0 * * *\"\nretrain = \"\"\nmaintain = \"\"\nbackup = \"\"\n";

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_micros() as i64
}

fn midnight() -> i64 {
    now_us() / DAY_US * DAY_US
}

/// As if a scheduler had last run three days ago.
fn down_for_days(place: &Place) {
    let known = json!({ "update": { "when": "0 0 * * * UTC", "since_us": now_us() - 3 * DAY_US } });
    let state = place.folder.path().join("state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("schedule.json"), known.to_string()).unwrap();
}

#[test]
fn what_was_missed_is_run_once() {
    for place in Place::on_both() {
        place.configure(SETTINGS);
        let version = place.next_model();
        // On its first start nothing was missed.
        let output = place.run("schedule --once");
        assert!(output.status.success(), "{}", log(&output));
        assert_eq!(runs(&place, "update").len(), 0);
        assert!(
            log(&output).contains("the next update is due "),
            "{}",
            log(&output)
        );
        assert!(
            log(&output).contains("T00:00:00+00:00[UTC]"),
            "{}",
            log(&output)
        );

        down_for_days(&place);
        for _ in 0..2 {
            let output = place.run("schedule --once");
            assert!(output.status.success(), "{}", log(&output));
            let [run] = &runs(&place, "update")[..] else {
                panic!("{:?}: {}", runs(&place, "update"), log(&output))
            };
            assert_eq!(
                (run.state, run.due_at_us),
                (RunState::Succeeded, Some(midnight()))
            );
        }
        assert_eq!(place.active(), Some(version));

        // Runs of other machines are known only from the database.
        down_for_days(&place);
        place.run("schedule --once");
        assert_eq!(runs(&place, "update").len(), 1);
    }
}

/// Each saves its state, and does not remove the temporary file of another.
#[test]
fn schedulers_may_start_together() {
    let place = Place::on_sqlite();
    place.configure(SETTINGS);
    let schedulers: Vec<_> = (0..8)
        .map(|_| start(place.command("schedule --once")))
        .collect();
    for scheduler in schedulers {
        let output = scheduler.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", log(&output));
    }
    let state = place.folder.path().join("state");
    let names: Vec<_> = fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("schedule"))
        .collect();
    assert_eq!(names, ["schedule.json"]);
}

#[test]
fn a_run_that_fails_is_not_run_again_for_the_same_moment() {
    let place = Place::on_sqlite();
    place.configure(SETTINGS);
    down_for_days(&place);
    let said = place.refused("schedule --once", 1);
    assert!(said.contains("failed: update"), "{said}");
    place.json("schedule --once");
    assert_eq!(runs(&place, "update").len(), 1);
}

#[test]
fn a_run_by_another_machine_counts_and_one_that_was_cut_off_here_does_not() {
    let place = Place::on_sqlite();
    place.configure(SETTINGS);
    place.next_model();
    down_for_days(&place);
    let elsewhere = NewRun {
        job: "update".into(),
        due_at_us: Some(midnight()),
        host: "elsewhere".into(),
        pid: 1,
        presumed_dead: Duration::from_hours(1),
    };
    place
        .runtime
        .block_on(place.store.begin_run(&elsewhere))
        .unwrap();
    place.json("schedule --once");
    assert_eq!(runs(&place, "update").len(), 1);
    // The note of a run that was killed with its machine.
    let note = |starts: u32| json!({ "host": "here", "pid": 1, "since_us": midnight(), "due_at_us": midnight(), "fine_tune": false, "starts": starts });
    let lock = place.folder.path().join("state/update.lock");
    fs::write(&lock, note(3).to_string()).unwrap();
    place.json("schedule --once");
    assert_eq!(runs(&place, "update").len(), 1, "three were enough");
    fs::write(&lock, note(2).to_string()).unwrap();
    place.json("schedule --once");
    let runs = runs(&place, "update");
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].state, RunState::Succeeded);
}

#[test]
fn a_scheduler_that_is_stopped_ends_its_runs_and_takes_them_up_again() {
    let place = Place::on_postgres();
    place.configure(&SETTINGS.replace("[run]", "[run]\ngrace_seconds = 1"));
    let version = place.next_model();
    down_for_days(&place);
    let locked = Locked::vectors(&place.url);
    let scheduler = start(place.command("schedule"));
    let run = wait_for("the run", || child_running(scheduler.id(), "run update"));
    let update = wait_for("the update", || child_running(run, "--json update"));
    locked.wait_for_somebody();
    send("TERM", scheduler.id());
    let output = scheduler.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", log(&output));
    assert!(
        log(&output)
            .trim_end()
            .ends_with("schedule completed successfully"),
        "{}",
        log(&output)
    );
    assert!(!is_alive(run) && !is_alive(update));
    drop(locked);
    assert_eq!(runs(&place, "update")[0].state, RunState::Failed);
    place.json("schedule --once");
    let runs = runs(&place, "update");
    assert_eq!((runs.len(), runs[0].state), (2, RunState::Succeeded));
    assert_eq!(place.active(), Some(version));
    assert!(place.vectors().contains(&whole(version)));
}

#[test]
fn a_database_that_is_away_is_waited_for() {
    let place = Place::on_sqlite();
    place.configure(SETTINGS);
    place.next_model();
    down_for_days(&place);
    let database = place.folder.path().join("test.db");
    let away = place.folder.path().join("away.db");
    // A folder cannot be opened as a database.
    fs::rename(&database, &away).unwrap();
    fs::create_dir(&database).unwrap();
    let logged = place.folder.path().join("log");
    let mut command = place.command("--log-file log schedule");
    let scheduler = start({
        command.env("TWOTOWER_LOG_FORMAT", "json");
        command
    });
    let said = |words: &str| {
        let text = fs::read_to_string(&logged).unwrap_or_default();
        text.contains(words).then_some(())
    };
    wait_for("word of it", || {
        said("what is due waits until the database can be asked")
    });
    fs::remove_dir(&database).unwrap();
    fs::rename(&away, &database).unwrap();
    wait_for("the run", || said("update has ended well"));
    send("TERM", scheduler.id());
    let output = scheduler.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", log(&output));
    assert_eq!(runs(&place, "update")[0].state, RunState::Succeeded);
}
