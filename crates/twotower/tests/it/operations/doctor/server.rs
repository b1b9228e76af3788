use super::super::processes::{Locked, wait_for};
use super::super::receiver::Receiver;
use super::{SMALL, doctor, finding, told, wrong};
use crate::serve::fixture::{Fixture, token, user};
use crate::support::Workplace;
use std::time::{Duration, Instant};

#[test]
fn a_server_is_asked_and_its_metrics_are_read() {
    let fixture = Fixture::new();
    let running = fixture.serve();
    let place = Workplace::on_postgres(fixture.url.clone());
    place.configure(&format!(
        "{SMALL}latency_ms = 30000\nserver = \"http://{}\"\nserver_metrics = \"{}/metrics\"",
        running.address, running.metrics.base
    ));
    let bearer = format!("Bearer {}", token(user(1)));
    for _ in 0..30 {
        let answer = running.client.post(
            "/functions/v1/two_tower_recommendations",
            &[
                ("authorization", &bearer),
                ("content-type", "application/json"),
            ],
            "{\"limit\":3}",
        );
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let only = "--only server-ready,server-current,server-latency,server-errors,server-recall";
    let (code, value) = told(doctor(&place, only));
    assert_eq!(code, Some(0), "{value:#}");
    assert!(
        finding(&value, "server-ready", None)
            .1
            .contains("version 1 answers"),
        "{value:#}"
    );
    assert!(
        finding(&value, "server-errors", None)
            .1
            .starts_with("0 of 30 requests failed"),
        "{value:#}"
    );
    assert!(
        finding(&value, "server-latency", None)
            .1
            .contains("30 lists"),
        "{value:#}"
    );
    // The next version becomes active where its files cannot be read; lists are made from the one before.
    let next = fixture.load(2);
    std::fs::remove_dir_all(fixture.models()).unwrap();
    fixture.activate(next);
    let begun = Instant::now();
    loop {
        let readiness = running.client.get("/readyz", &[]).json();
        let checks = readiness["checks"].as_array().unwrap();
        if checks.iter().any(|check| check["ok"] == false) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{readiness}");
        std::thread::sleep(Duration::from_millis(50));
    }
    wrong(
        &place,
        "server-current",
        None,
        "version 1 answers, but: the files of the active model version 2",
        "do what the reason says",
    );
    let (code, value) = told(doctor(&place, "--only server-ready"));
    assert_eq!(code, Some(0), "nobody is to restart it: {value:#}");
    drop(running);
    wrong(
        &place,
        "server-ready",
        None,
        "does not answer",
        "twotower serve",
    );
}

/// Readiness says that the database does not answer where one answer of it is late by a moment.
#[test]
fn a_database_that_is_late_once_calls_nobody() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let running = fixture.serve();
    let place = Workplace::on_postgres(fixture.url.clone());
    place.configure(&format!("{SMALL}server = \"http://{}\"", running.address));
    let late = Locked::from_readers(&fixture.url, "likes");
    std::thread::scope(|scope| {
        let look = scope.spawn(|| told(doctor(&place, "--only server-current")));
        let asked =
            "twotower_http_request_duration_seconds_count{route=\"/readyz\",status=\"200\"}";
        wait_for("the first look", || {
            running.metric(asked).filter(|looks| *looks > 0.0)
        });
        drop(late);
        let (code, value) = look.join().unwrap();
        let (verdict, evidence, _) = finding(&value, "server-current", None);
        assert_eq!((code, verdict.as_str()), (Some(0), "passed"), "{evidence}");
        assert!(running.metric(asked).unwrap() > 1.0, "it was asked again");
    });
    // One that stays away is told all the same.
    let _away = Locked::from_readers(&fixture.url, "likes");
    let reason = "version 1 answers, but: the database does not answer";
    let fix = "do what the reason says";
    wrong(&place, "server-current", None, reason, fix);
}

/// Models may lie in a project whose lists come from a server.
#[test]
fn a_function_that_is_not_deployed_is_missed_only_where_no_server_answers() {
    let project = Receiver::start();
    project.answers("404 Not Found");
    let place = Workplace::on_sqlite();
    let look = |toml: &str| {
        place.configure(toml);
        let mut command = doctor(&place, "--only edge-function");
        command.env("SUPABASE_URL", project.url(""));
        let (code, value) = told(command);
        let (verdict, evidence, _) = finding(&value, "edge-function", None);
        (code, verdict, evidence)
    };
    let (code, verdict, evidence) = look("");
    assert_eq!((code, verdict.as_str()), (Some(1), "failed"), "{evidence}");
    let served = "[checks]\nserver = \"http://127.0.0.1:1\"";
    let (code, verdict, evidence) = look(served);
    assert_eq!((code, verdict.as_str()), (Some(0), "skipped"), "{evidence}");
    assert!(
        evidence.contains("`server` of section [checks]"),
        "{evidence}"
    );
    // One that is there is looked at all the same.
    project.answers("200 OK");
    let (code, verdict, evidence) = look(served);
    assert_eq!((code, verdict.as_str()), (Some(1), "failed"), "{evidence}");
}
