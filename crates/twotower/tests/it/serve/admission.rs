//! Servers under overload.

use super::client::Answer;
use super::fixture::{Fixture, claims, sign, token, user};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use twotower::serve::{Concurrency, UserRate};

/// The `Retry-After` of a refusal.
fn comes_back(answer: &Answer) -> u64 {
    let seconds = answer.header("retry-after").parse().unwrap();
    assert!(seconds >= 1, "{seconds}");
    seconds
}

#[test]
fn heavy_every_request_of_a_crowd_is_answered_and_the_server_recovers() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.concurrency = Concurrency {
        minimum: 1,
        maximum: 2,
        queue: Duration::from_millis(20),
    };
    let server = fixture.serve_with(config);
    let (served, shed) = (AtomicU32::new(0), AtomicU32::new(0));
    let (clients, each) = (64, 25);
    std::thread::scope(|scope| {
        for who in 0..clients {
            let (server, served, shed) = (&server, &served, &shed);
            scope.spawn(move || {
                let client = server.another_client();
                let token = token(user(who));
                for _ in 0..each {
                    let answer = client.recommend(&token, "{}");
                    match answer.status {
                        200 => served.fetch_add(1, Ordering::Relaxed),
                        503 => {
                            assert_eq!(answer.error().1, "overloaded", "{}", answer.text);
                            comes_back(&answer);
                            shed.fetch_add(1, Ordering::Relaxed)
                        }
                        _ => panic!("{}: {}", answer.status, answer.text),
                    };
                    assert_eq!(client.get("/healthz", &[]).status, 200);
                }
            });
        }
    });
    let (served, shed) = (served.into_inner(), shed.into_inner());
    assert_eq!(served + shed, clients as u32 * each);
    assert!(served > 0 && shed > 0, "{served} served, {shed} shed");
    assert_eq!(server.client.recommend(&token(user(1)), "{}").status, 200);
    let figure = |name: &str| server.metric(name).unwrap_or_default();
    let idle = Some(0.0);
    assert_eq!(server.metric("twotower_http_requests_in_flight"), idle);
    assert_eq!(server.metric("twotower_http_requests_waiting"), idle);
    let reasons = ["queue_full", "queue_deadline"];
    let counted: u32 = reasons
        .iter()
        .map(|reason| {
            figure(&format!(
                "twotower_http_requests_shed_total{{reason=\"{reason}\"}}"
            )) as u32
        })
        .sum();
    assert_eq!(counted, shed);
}

#[test]
fn one_user_cannot_take_everything() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.user_rate = Some(UserRate {
        per_second: 1,
        burst: 3,
    });
    let server = fixture.serve_with(config);
    let status = |who: u128| server.client.recommend(&token(user(who)), "{}").status;
    let mut answers = (0..10).map(|_| server.client.recommend(&token(user(1)), "{}"));
    let refused = answers.find(|answer| answer.status != 200).unwrap();
    let (code, message, _) = refused.error();
    assert_eq!((code, message.as_str()), (429, "too_many_requests"));
    assert!(comes_back(&refused) <= 2);
    assert_eq!(status(2), 200, "others go on");
    let shed = r#"twotower_http_requests_shed_total{reason="user_rate"}"#;
    assert!(server.metric(shed).unwrap() >= 1.0);
    // An invalid token does not use up the rate limit of the user that it names.
    let mut forged = claims(user(3));
    forged["aud"] = json!("another");
    for _ in 0..5 {
        assert_eq!(server.client.recommend(&sign(&forged), "{}").status, 401);
    }
    assert_eq!(status(3), 200);
}
