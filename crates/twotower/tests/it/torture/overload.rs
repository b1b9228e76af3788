//! A database that does not answer for a while, under many requests.

use super::report;
use super::scene::on_postgres;
use crate::serve::fixture::{Running, config, token, user};
use crate::support::psql_command;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_store::{ConnectOptions, Store};

/// Nobody can read likes during this transaction.
const LOCK: &str = "BEGIN; LOCK TABLE likes IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT";

/// Every request gets an answer, every refusal says when to retry, and afterwards the server works
/// as before.
#[test]
fn heavy_a_crowd_before_a_database_that_is_stuck() {
    let scene = on_postgres();
    let options = ConnectOptions {
        max_connections: 4,
        acquire_timeout: Duration::from_millis(300),
        statement_timeout: Duration::from_millis(300),
    };
    let store = scene
        .runtime
        .block_on(Store::connect(&scene.url, options))
        .unwrap();
    let mut config = config(scene.models());
    config.limits.database = Duration::from_millis(250);
    // No fallback list is used, so each request waits and holds its place.
    config.limits.soft_deadline = Duration::ZERO;
    let server = Running::start(store, config);
    let token = token(user(1));
    assert_eq!(server.client.recommend(&token, "{}").status, 200);

    let mut lock = psql_command(&scene.url, LOCK).spawn().unwrap();
    let statuses = Mutex::new(BTreeMap::<u16, u32>::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for who in 0..48 {
            let (server, token, statuses) = (&server, &token, &statuses);
            scope.spawn(move || {
                let client = server.another_client();
                while begun.elapsed() < Duration::from_secs(6) {
                    let answer = client.recommend(token, "{}");
                    let known = [200, 503, 504].contains(&answer.status);
                    assert!(known, "{}: {}", answer.status, answer.text);
                    if answer.status == 503 {
                        assert!(!answer.header("retry-after").is_empty(), "{}", answer.text);
                    }
                    *statuses.lock().unwrap().entry(answer.status).or_default() += 1;
                    if who == 0 {
                        assert_eq!(client.get("/healthz", &[]).status, 200);
                    }
                    sleep(Duration::from_millis(5));
                }
            });
        }
    });
    assert!(lock.wait().unwrap().success());
    let statuses = statuses.into_inner().unwrap();
    let count = |status: u16| statuses.get(&status).copied().unwrap_or_default();
    assert!(count(504) > 0, "the database was stuck: {statuses:?}");
    assert!(count(503) > 0, "some were told to come back: {statuses:?}");
    assert!(count(200) > 0, "the rest were answered: {statuses:?}");
    for _ in 0..50 {
        let answer = server.client.recommend(&token, "{}");
        assert_eq!(answer.status, 200, "it recovers: {}", answer.text);
    }
    let in_flight = server.metric("twotower_http_requests_in_flight");
    assert_eq!(in_flight, Some(0.0));
    let limit = server.metric("twotower_concurrency_limit").unwrap();
    // For lists and for events, each from 8 to 256.
    assert!((16.0..=512.0).contains(&limit), "{limit}");
    report(&format!(
        "a crowd before a database that is stuck: answers by status {statuses:?}, a limit of {limit} afterwards"
    ));
}
