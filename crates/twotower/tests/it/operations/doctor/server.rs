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
    // The next version is activated while its files cannot be read; the previous one still answers.
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

/// Readiness reports a fault of the database after a single late answer.
#[test]
fn a_database_that_is_late_once_calls_nobody() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let running = fixture.serve();
    let place = Workplace::on_postgres(fixture.url.clone());
    place.configure(&format!("{SMALL}server = \"http://{}\"", running.address));
    // The server keeps the result of its own check for a moment.
    let is_noticed = || {
        let readiness = running.client.get("/readyz", &[]).text;
        readiness
            .contains("the database does not answer")
            .then_some(())
    };
    let late = Locked::from_readers(&fixture.url, "likes");
    wait_for("the server to notice", is_noticed);
    std::thread::scope(|scope| {
        let asked =
            "twotower_http_request_duration_seconds_count{route=\"/readyz\",status=\"200\"}";
        let before = running.metric(asked).unwrap();
        let look = scope.spawn(|| told(doctor(&place, "--only server-current")));
        wait_for("the first look", || {
            running.metric(asked).filter(|looks| *looks > before)
        });
        drop(late);
        let (code, value) = look.join().unwrap();
        let (verdict, evidence, _) = finding(&value, "server-current", None);
        assert_eq!((code, verdict.as_str()), (Some(0), "passed"), "{evidence}");
        let looks = running.metric(asked).unwrap() - before;
        assert!(looks > 1.0, "it was asked again");
    });
    // A database that stays away is reported nevertheless.
    let _away = Locked::from_readers(&fixture.url, "likes");
    wait_for("the server to notice again", is_noticed);
    let reason = "version 1 answers, but: the database does not answer";
    let fix = "do what the reason says";
    wrong(&place, "server-current", None, reason, fix);
}

/// Models may be kept in a project although a server answers requests.
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
    // A function that exists is checked nevertheless.
    project.answers("200 OK");
    let (code, verdict, evidence) = look(served);
    assert_eq!((code, verdict.as_str()), (Some(1), "failed"), "{evidence}");
}

/// Without a server the function is the API: a token makes the check see what users see.
#[test]
fn a_function_that_refuses_strangers_and_answers_no_list_is_told() {
    let project = Receiver::start();
    project.answers("401 Unauthorized");
    project.answers_tokens("503 Service Unavailable");
    let place = Workplace::on_sqlite();
    place.configure("[checks]\nlatency_ms = 30000");
    let file = place.folder.path().join("probe-token");
    std::fs::write(&file, "canary.canary.canary\n").unwrap();
    let look = |with_token: bool| {
        let mut command = doctor(&place, "--only edge-function");
        command.env("SUPABASE_URL", project.url(""));
        if with_token {
            command.env("TWOTOWER_PROBE_TOKEN_FILE", &file);
        }
        let (code, value) = told(command);
        assert!(!value.to_string().contains("canary"), "{value}");
        let (verdict, evidence, _) = finding(&value, "edge-function", None);
        (code, verdict, evidence)
    };
    let (code, verdict, evidence) = look(false);
    assert_eq!((code, verdict.as_str()), (Some(0), "passed"), "{evidence}");
    let (code, verdict, evidence) = look(true);
    assert_eq!((code, verdict.as_str()), (Some(1), "failed"), "{evidence}");
    assert_eq!(evidence, "answers 503 to who has a token");
    project.answers_tokens("200 OK\n\n{\"recommendations\": [], \"partial\": true}");
    let (code, verdict, evidence) = look(true);
    assert_eq!((code, verdict.as_str()), (Some(1), "failed"), "{evidence}");
    assert!(evidence.contains("an earlier list"), "{evidence}");
    project.answers_tokens("200 OK\n\n{\"recommendations\": [], \"partial\": false}");
    let (code, verdict, evidence) = look(true);
    assert_eq!((code, verdict.as_str()), (Some(0), "passed"), "{evidence}");
    assert!(evidence.contains("answers a list"), "{evidence}");
    // A gateway that answers once that nobody is there.
    project.answers_once("502 Bad Gateway");
    let (code, verdict, evidence) = look(true);
    assert_eq!((code, verdict.as_str()), (Some(0), "passed"), "{evidence}");
}

/// A project with Edge Functions and no server has nothing else that watches its API. Without a
/// probe, a missing function may be one that nobody needs: lists come from SQL functions, too.
#[test]
fn an_edge_function_that_fails_is_an_alert() {
    let (webhook, project) = (Receiver::start(), Receiver::start());
    let severity = |head: &str, probe: &str| {
        project.answers(head);
        let place = Workplace::on_sqlite();
        let mut command = place.command("--json alert check");
        command
            .env("TWOTOWER_ALERT_WEBHOOK", webhook.url("/"))
            .env("SUPABASE_URL", project.url(""))
            .env("TWOTOWER_PROBE_TOKEN_FILE", probe);
        let (_, round) = told(command);
        let mut firing = round["firing"].as_array().unwrap().iter();
        let alert = firing.find(|it| it["key"] == "edge-function");
        alert.map(|it| it["severity"].clone())
    };
    let critical = Some("critical".into());
    assert_eq!(severity("500 Internal Server Error", ""), critical);
    assert_eq!(severity("404 Not Found", ""), None);
    assert_eq!(severity("404 Not Found", "probe-token"), critical);
}
