//! Events are stored once, and the next answer reflects them.

use super::client::Answer;
use super::fixture::{Fixture, Running, token, user, video};
use serde_json::{Value, json};
use twotower::serve::UserRate;
use twotower_store::{ErasePlan, EventPolicy};
use uuid::Uuid;

fn send(server: &Running, token: &str, events: &Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let body = json!({ "events": events }).to_string();
    server.client.post("/functions/v1/events", &headers, &body)
}

fn event(id: u128, kind: &str, n: u128) -> Value {
    json!({"event_id": Uuid::from_u128(id), "kind": kind, "video_id": video(n)})
}

#[test]
fn a_like_counts_in_the_next_answer_and_a_second_sending_does_not() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let token = token(user(100));
    let (before, _) = server.client.recommended(&token, "{}");
    let first = Uuid::try_parse(&before[0]).unwrap();
    let events = json!([
        {"event_id": Uuid::from_u128(1), "kind": "impression", "video_id": first, "position": 1},
        {"event_id": Uuid::from_u128(2), "kind": "view", "video_id": first, "watch_fraction": 0.9},
        {"event_id": Uuid::from_u128(3), "kind": "like", "video_id": first},
    ]);
    let answer = send(&server, &token, &events);
    assert_eq!(answer.json(), json!({"accepted": 3, "duplicates": 0}));
    let (after, _) = server.client.recommended(&token, "{}");
    assert!(!after.contains(&before[0]), "liked videos stay away");
    let answer = send(&server, &token, &events);
    assert_eq!(answer.json(), json!({"accepted": 0, "duplicates": 3}));
    // Another user's events are distinct, even with equal ids.
    let answer = send(&server, &super::fixture::token(user(101)), &events);
    assert_eq!(answer.json(), json!({"accepted": 3, "duplicates": 0}));
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_written() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let token = token(user(100));
    let unknown = json!([event(1, "like", 1), event(2, "like", 999)]);
    let (status, code, message) = send(&server, &token, &unknown).error();
    assert_eq!((status, &*code), (400, "invalid_request"));
    assert_eq!(message, "`events[1].video_id` names no video");
    let mut odd = event(2, "like", 1);
    odd["user_id"] = json!(user(1));
    let (_, _, message) = send(&server, &token, &json!([event(1, "like", 1), odd])).error();
    let begin = "unknown field `events[1].user_id`; known: `event_id`";
    assert!(message.starts_with(begin), "{message}");
    let liked = fixture.store.liked_videos(user(100));
    assert!(fixture.runtime.block_on(liked).unwrap().is_empty());
    assert_eq!(
        send(&server, "x", &json!([event(1, "like", 1)])).status,
        401
    );
    // A hundred events with all fields are within the limit.
    let full = |n: u128| {
        json!({
            "event_id": Uuid::from_u128(n), "kind": "view", "video_id": video(1), "watch_fraction": 0.123_456_789,
            "model_version": i64::MAX, "request_id": "日".repeat(64), "position": 100,
        })
    };
    let events: Vec<Value> = (1..=100).map(full).collect();
    let answer = send(&server, &token, &json!(events));
    assert_eq!(answer.json(), json!({"accepted": 100, "duplicates": 0}));
}

#[test]
fn of_an_erased_user_nothing_is_taken() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let token = token(user(3));
    let events = json!([event(1, "impression", 1)]);
    assert_eq!(send(&server, &token, &events).status, 200);
    let plan = ErasePlan::default();
    let erased = fixture.store.erase_user(user(3), &plan);
    fixture.runtime.block_on(erased).unwrap();
    let (status, code, _) = send(&server, &token, &events).error();
    assert_eq!((status, &*code), (401, "unauthorized"));
    let rows = fixture.store.count_events(std::time::Duration::ZERO);
    assert_eq!(fixture.runtime.block_on(rows).unwrap(), 0);
}

#[test]
fn one_user_records_so_many_events_and_no_more() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    // None comes back while the test runs.
    config.limits.user_events = Some(UserRate {
        per_second: 1,
        burst: 200,
    });
    let server = fixture.serve_with(config);
    let batch = |from: u128, count: u128| {
        let events = (from..from + count).map(|id| event(id, "impression", 1));
        Value::Array(events.collect())
    };
    let one = token(user(100));
    for from in [1, 101] {
        assert_eq!(send(&server, &one, &batch(from, 100)).status, 200);
    }
    let refused = send(&server, &one, &batch(1001, 100));
    let (status, code, message) = refused.error();
    assert_eq!((status, &*code), (429, "too_many_requests"));
    let limit = "too many events: at most 1 a second in the long run and 200 at once";
    assert_eq!(message, limit);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((50..=101).contains(&wait), "{wait}");
    let rows = fixture.store.count_events(std::time::Duration::ZERO);
    let rows = fixture.runtime.block_on(rows).unwrap();
    assert_eq!(rows, 200, "nothing of a batch that is refused");
    let shed = r#"twotower_http_requests_shed_total{reason="user_events"}"#;
    assert_eq!(server.metric(shed), Some(1.0));
    assert_eq!(
        server.client.recommend(&one, "{}").status,
        200,
        "lists go on"
    );
    let other = send(&server, &token(user(101)), &batch(1, 100));
    assert_eq!(other.status, 200, "others go on");
}

#[test]
fn likes_are_written_where_no_events_are_kept() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.events = EventPolicy::None;
    let server = fixture.serve_with(config);
    let token = token(user(100));
    let events = json!([event(1, "like", 1), event(2, "impression", 2)]);
    for _ in 0..2 {
        let answer = send(&server, &token, &events);
        assert_eq!(answer.json(), json!({"accepted": 2, "duplicates": 0}));
    }
    let liked = fixture.store.liked_videos(user(100));
    assert_eq!(fixture.runtime.block_on(liked).unwrap(), [video(1)]);
    let rows = fixture.store.count_events(std::time::Duration::ZERO);
    assert_eq!(fixture.runtime.block_on(rows).unwrap(), 0);
}
