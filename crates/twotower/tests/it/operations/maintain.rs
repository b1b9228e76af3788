//! Maintenance from the command line: when it works, and what it reports.

use super::processes::Locked;
use super::run::{old_event, runs};
use crate::life_cycle::place::Place;
use crate::serve::fixture::{user, video};
use crate::support::{Workplace, psql_command, sql};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use twotower::config::Config;
use twotower::operations;
use twotower::operations::check::{Finding, Scope, Verdict, examine};
use twotower_core::time::DAY_US;
use twotower_store::{EventKind, EventPolicy, InteractionKind, InteractionRow, NewEvent, RunState};
use uuid::Uuid;

fn step<'a>(report: &'a Value, action: &str, target: &str) -> &'a Value {
    let steps = report["steps"].as_array().unwrap();
    let found = steps
        .iter()
        .find(|step| step["action"] == action && step["target"] == target);
    found.unwrap_or_else(|| panic!("no {action} of {target}: {report}"))
}

/// A window that begins in two hours.
fn later() -> String {
    let [from, to] = [2_i64, 3].map(|hours| {
        (Timestamp::now() + hours.hours())
            .strftime("%H:%M")
            .to_string()
    });
    format!("{from}-{to}")
}

/// Creates many dead rows.
fn churn(place: &Place) {
    place.next_model();
    place.json("update");
    sql(
        &place.url,
        "ALTER TABLE user_embeddings SET (autovacuum_enabled = false);
         INSERT INTO user_embeddings (user_id, model_version, embedding, fingerprint)
         SELECT gen_random_uuid(), 1, embedding, 0 FROM user_embeddings, generate_series(1, 5);
         DELETE FROM user_embeddings WHERE fingerprint = 0;
         SELECT pg_stat_force_next_flush(), count(*) FROM user_embeddings",
    );
}

#[test]
fn outside_of_the_window_nothing_is_done() {
    let place = Place::on_postgres();
    churn(&place);
    let window = later();
    place.configure(&format!("[maintenance]\nwindow = \"{window}\""));
    let report = place.json("maintain");
    assert_eq!(
        (&report["in_window"], &report["steps"]),
        (&json!(false), &json!([]))
    );
    let output = place.run("maintain");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("outside of the window") && said.contains("--now"),
        "{said}"
    );

    // It is recorded with its real state, and does not count as the scheduled run.
    let kept = old_event(&place.store, user(1), video(1));
    assert_eq!(place.runtime.block_on(kept), 1);
    let ran = place.json("run maintain");
    assert_eq!(ran["state"], "skipped", "{ran}");
    let events = || {
        place
            .runtime
            .block_on(place.store.count_events(Duration::ZERO))
    };
    assert_eq!(events().unwrap(), 1);
    let [run] = &runs(&place, "maintain")[..] else {
        panic!("not one run")
    };
    let message = run.message.as_ref().unwrap();
    assert_eq!((run.state, run.exit_code), (RunState::Skipped, Some(0)));
    assert!(
        message.contains(&window) && message.contains("in time zone UTC"),
        "{message}"
    );

    let dry = place.json("maintain --now --dry-run");
    let vacuum = step(&dry, "vacuum", "public.user_embeddings");
    assert_eq!(vacuum["outcome"], "planned");
    assert!(
        vacuum["dead_rows_before"].as_u64().unwrap() >= 1500,
        "{vacuum}"
    );

    let report = place.json("maintain --now");
    let vacuum = step(&report, "vacuum", "public.user_embeddings");
    assert_eq!(
        (&vacuum["outcome"], &vacuum["dead_rows_after"]),
        (&json!("done"), &json!(0)),
        "{vacuum}"
    );
    let again = place.json("maintain --now");
    let steps = again["steps"].as_array().unwrap();
    assert!(
        steps.iter().all(|step| step["action"] != "vacuum"),
        "what needs nothing gets nothing: {again}"
    );
    let ran = place.json("run maintain --now");
    assert_eq!(ran["state"], "succeeded", "{ran}");
    assert_eq!(events().unwrap(), 0, "what was kept long enough goes");
    let states: Vec<_> = runs(&place, "maintain")
        .iter()
        .map(|run| run.state)
        .collect();
    assert_eq!(states, [RunState::Succeeded, RunState::Skipped]);

    // The window is in the schedule's time zone: here the same moment is inside.
    place.configure(
        "[maintenance]\nwindow = \"00:00-24:00\"\n[schedule]\ntime_zone = \"Asia/Tokyo\"",
    );
    assert_eq!(place.json("maintain")["in_window"], true);
    assert_eq!(place.json("run maintain")["state"], "succeeded");
}

/// A long transaction keeps its table locked; the other steps are done, and the job succeeds.
#[test]
fn a_locked_table_is_given_way_to() {
    let place = Place::on_postgres();
    churn(&place);
    place.configure("[maintenance]\nlock_ms = 200");
    let mut other = psql_command(
        &place.url,
        "BEGIN; LOCK TABLE user_embeddings IN SHARE MODE; SELECT pg_sleep(600)",
    )
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'user_embeddings'::regclass AND mode = 'ShareLock' AND granted";
    while sql(&place.url, locked) == "0" {}
    let report = place.json("maintain --now");
    let vacuum = step(&report, "vacuum", "public.user_embeddings");
    assert_eq!(vacuum["outcome"], "gave_way", "{vacuum}");
    assert_eq!(
        step(&report, "delete old", "runs of jobs")["outcome"],
        "done"
    );
    sql(
        &place.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()
         AND datname = current_database()",
    );
    other.wait().unwrap();
    let report = place.json("maintain --now");
    let vacuum = step(&report, "vacuum", "public.user_embeddings");
    assert_eq!(vacuum["outcome"], "done");
}

#[test]
fn a_role_that_may_not_says_so() {
    let place = Place::on_postgres();
    let role = format!("login_upkeep_{}", std::process::id());
    sql(
        &place.url,
        &format!("CREATE ROLE {role} LOGIN; GRANT twotower_updater TO {role}"),
    );
    let other = Workplace::on_postgres(place.url.replace("postgres@", &format!("{role}@")));
    let said = other.refused("maintain --now", 1);
    assert!(
        said.contains("may do no upkeep on") && said.contains("public.video_embeddings"),
        "{said}"
    );
    let whose = "prune runs as the owner of the tables";
    let said = other.refused("prune", 1);
    assert!(
        said.contains(whose) && said.contains("permission denied for table events"),
        "{said}"
    );
    // The run fails with the first error; the other one is reported too.
    let said = other.refused("run maintain --now", 1);
    assert!(
        said.contains(whose) && said.lines().last().unwrap().contains("may do no upkeep on"),
        "{said}"
    );
    sql(
        &place.url,
        &format!("DROP OWNED BY {role}; DROP ROLE {role}"),
    );
}

#[test]
fn the_embedded_database_is_checked_and_shrunk() {
    let place = Place::on_sqlite();
    place.next_model();
    place.json("update");
    let skips: Vec<_> = (0..60_000)
        .map(|n| InteractionRow {
            user: Uuid::from_u128(n),
            video: video(1),
            at_us: 1,
        })
        .collect();
    let written = place
        .store
        .write_interactions(InteractionKind::Skip, &skips);
    place.runtime.block_on(written).unwrap();
    let python = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM skips'); c.commit()";
    let deleted = Command::new("python3")
        .args(["-c", python])
        .arg(place.folder.path().join("test.db"))
        .status()
        .unwrap();
    assert!(deleted.success());
    let report = place.json("maintain --now");
    assert_eq!(step(&report, "check", "database file")["outcome"], "done");
    let shrink = step(&report, "shrink", "database file");
    assert_eq!(shrink["outcome"], "done");
    let bytes = |key: &str| shrink[key].as_u64().unwrap();
    assert!(
        bytes("bytes_after") + (1 << 20) < bytes("bytes_before"),
        "{shrink}"
    );
}

/// Forty users liked what they were shown three weeks ago, and hardly anything of this week.
fn less_liked(place: &Place) {
    let now_us = Timestamp::now().as_microsecond();
    for n in 0..40 {
        let event = |id: u128, kind, days: i64| NewEvent {
            event_id: Uuid::from_u128(id),
            kind,
            video: video(1 + id % 20),
            watch_fraction: None,
            model_version: None,
            request_id: None,
            position: None,
            at_us: Some(now_us - days * DAY_US),
        };
        let mut events: Vec<_> = (0..10)
            .flat_map(|id| {
                let [earlier, now] = [(id, 20), (10 + id, 3)];
                [earlier, now].map(|(id, days)| event(id, EventKind::Impression, days))
            })
            .collect();
        let (earlier, now) = (20..25 + n % 2, 30..30 + n % 2);
        events.extend(earlier.map(|id| event(id, EventKind::Like, 20)));
        events.extend(now.map(|id| event(id, EventKind::Like, 3)));
        let recorded = place
            .store
            .record_events(user(n), &events, EventPolicy::All);
        place.runtime.block_on(recorded).unwrap();
    }
}

#[test]
fn what_a_watch_has_no_time_to_count_is_counted_at_night() {
    let place = Place::on_postgres();
    let toml = format!(
        "[run]\nstate_dir = \"{}/state\"\n[checks]\ndrift_impressions = 100",
        place.folder.path().display()
    );
    place.configure(&toml);
    less_liked(&place);
    let at = operations::Place {
        db_url: place.url.clone(),
        config_file: None,
        config: Config::parse(&toml, std::path::Path::new("x.toml")).unwrap(),
    };
    let drift = || -> Finding {
        let found = place.runtime.block_on(examine(&at, Scope::Watched));
        let drift = found.into_iter().find(|finding| finding.check == "drift");
        drift.unwrap()
    };
    let state = place.folder.path().join("state");
    {
        let _locked = Locked::from_readers(&place.url, "twotower.events");
        let late = drift();
        assert_eq!(late.verdict, Verdict::Skipped, "{late:?}");
        assert!(late.evidence.contains("takes too long"), "{late:?}");
        assert!(late.fix.contains("twotower run maintain"), "{late:?}");
    }
    // It is not retried within the hour.
    assert_eq!(drift().verdict, Verdict::Skipped);
    place.json("maintain --now");
    let told = drift();
    assert_eq!(told.verdict, Verdict::Failed, "{told:?}");
    assert!(told.evidence.contains("s ago"), "{told:?}");
    // An hour later it is.
    std::fs::remove_file(state.join("drift.json")).unwrap();
    let told = drift();
    assert_eq!(told.verdict, Verdict::Failed, "{told:?}");
    assert!(!told.evidence.contains("ago:"), "{told:?}");
    // If a round has time to count, nothing is counted at night.
    std::fs::remove_file(state.join("drift-night.json")).unwrap();
    place.json("maintain --now");
    assert!(!state.join("drift-night.json").exists());
}
