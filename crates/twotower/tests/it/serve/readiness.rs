use super::fixture::{Fixture, Running, token, user};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use twotower::serve::auth::Config;
use twotower::serve::{ConsoleAccess, Server};

fn ready(server: &Running) -> (u16, Value) {
    let answer = server.client.get("/readyz", &[]);
    (answer.status, answer.json())
}

fn reason(body: &Value, name: &str) -> String {
    let checks = body["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap();
    check["reason"].as_str().unwrap_or_default().to_owned()
}

/// Polls, since the server looks for new versions by itself.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn serve_quickly(fixture: &Fixture) -> Running {
    let mut config = fixture.config();
    config.limits.active_model_poll = Duration::from_millis(50);
    config.limits.catalogue_poll = Duration::from_millis(200);
    fixture.serve_with(config)
}

#[test]
fn all_is_well() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let health = server.client.get("/healthz", &[]);
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok"}))
    );
    let ok = |name: &str| json!({"name": name, "ok": true});
    let expected = json!({
        "ready": true,
        "model_version": 1,
        "checks": [ok("database"), ok("model"), ok("keys")],
    });
    assert_eq!(ready(&server), (200, expected));
}

#[test]
fn a_new_version_is_served_and_a_missing_folder_keeps_the_old_one() {
    let fixture = Fixture::new();
    let server = serve_quickly(&fixture);
    let version = || {
        let (ids, body) = server.client.recommended(&token(user(1)), "{}");
        (body["model_version"].as_i64(), ids)
    };
    let (first, old_list) = version();
    assert_eq!(first, Some(1));

    assert_eq!(fixture.train(2), 2);
    wait_for("version 2", || version().0 == Some(2));
    assert_ne!(version().1, old_list);

    let third = fixture.train(3);
    std::fs::rename(fixture.models().join("3"), fixture.models().join("hidden")).unwrap();
    let mut server = serve_quickly(&fixture);
    let (status, body) = ready(&server);
    assert_eq!((status, third), (503, 3));
    let reason = reason(&body, "model");
    assert!(
        reason.contains("version 3") && reason.contains("twotower rollback"),
        "{reason}"
    );
    assert_eq!(
        server.client.recommend(&token(user(1)), "{}").error().0,
        503
    );

    std::fs::rename(fixture.models().join("hidden"), fixture.models().join("3")).unwrap();
    wait_for("the folder", || ready(&server).0 == 200);
    server.stop();
}

#[test]
fn a_running_server_keeps_its_version_until_the_next_one_is_whole() {
    let fixture = Fixture::new();
    let server = serve_quickly(&fixture);
    assert_eq!(ready(&server).0, 200);
    std::fs::create_dir_all(fixture.models().join("hidden")).unwrap();
    // The version becomes active while its folder cannot be read here.
    let version = fixture.train(2);
    let damaged = fixture
        .models()
        .join(version.to_string())
        .join("manifest.json");
    std::fs::write(damaged, "{}").unwrap();
    let server_2 = serve_quickly(&fixture);
    assert_eq!(ready(&server_2).0, 503);
    let answer = server.client.recommend(&token(user(1)), "{}");
    assert_eq!(answer.status, 200, "the old view stays: {}", answer.text);
}

#[test]
fn what_enters_or_leaves_the_catalogue_is_noticed() {
    let fixture = Fixture::without_model();
    let server = serve_quickly(&fixture);
    let first = || {
        server
            .client
            .recommended(&token(user(900)), r#"{"limit":1}"#)
            .0
    };
    let before = first();
    let favourite = super::fixture::video(30);
    for n in 100..120 {
        fixture.interact(twotower_store::InteractionKind::Like, user(n), &[favourite]);
    }
    wait_for("the new favourite", || first() == [favourite.to_string()]);
    assert_ne!(before, first());
}

#[test]
fn without_a_key_it_does_not_start() {
    let fixture = Fixture::new();
    let start = |listen: &str, console| {
        let mut config = fixture.config();
        config.auth = Config::default();
        config.listen = listen.parse().unwrap();
        config.console = console;
        let bound = Server::bind(fixture.store.clone(), config);
        fixture
            .runtime
            .block_on(bound)
            .err()
            .map(|error| format!("{error:#}"))
    };
    let no_key = start("127.0.0.1:0", ConsoleAccess::Off).unwrap();
    assert!(no_key.contains("TWOTOWER_JWT_SECRET"), "{no_key}");
    let open = start("0.0.0.0:0", ConsoleAccess::Loopback).unwrap();
    assert!(open.contains("--console-on-any-address"), "{open}");
    assert!(start("0.0.0.0:0", ConsoleAccess::AnyAddress).is_some());
    assert_eq!(start("127.0.0.1:0", ConsoleAccess::Loopback), None);
}
