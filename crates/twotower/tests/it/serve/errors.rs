use super::client::{EVENTS, RECOMMENDATIONS, SIMILAR_VIDEOS};
use super::fixture::{Fixture, token, user, video};
use serde_json::{Value, json};

#[test]
fn each_wrong_request_is_told_what_is_wrong() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let token = token(user(1));
    let recommend = |body: &str| server.client.recommend(&token, body).error();
    let refused = |message: &str| (400, "invalid_request".to_owned(), message.to_owned());

    let limit = refused("`limit` must be a whole number from 1 to 100");
    for body in [
        r#"{"limit":0}"#,
        r#"{"limit":101}"#,
        r#"{"limit":1e9}"#,
        r#"{"limit":"10"}"#,
    ] {
        assert_eq!(recommend(body), limit, "{body}");
    }
    let exclude_liked = refused("`exclude_liked` must be true or false");
    assert_eq!(recommend(r#"{"exclude_liked":1}"#), exclude_liked);
    assert_eq!(
        recommend(r#"{"limit":5,"user_id":"x"}"#),
        refused(
            "unknown field `user_id`; known: `limit`, `exclude_liked`, `diversity`, `include_reasons`, `min_score`, `filter`, `seed`"
        )
    );
    assert_eq!(recommend("[]"), refused("the body must be a JSON object"));
    assert_eq!(
        recommend("{\"limit\": NaN}"),
        refused("the body is not valid JSON (line 1, column 11)")
    );
    let deep = format!("{{\"limit\":{}", "[".repeat(8000));
    assert_eq!(recommend(&deep).0, 400);
}

/// NUL, right-to-left marks and characters of two UTF-16 units: in names, ids and texts.
#[test]
fn odd_characters_are_refused_by_the_fields_name_or_looked_for_in_vain() {
    let fixtures = [Fixture::new(), Fixture::on_postgres()];
    fixtures[1].train(1);
    for fixture in fixtures {
        let server = fixture.serve();
        let authorization = format!("Bearer {}", token(user(1)));
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let post = |path: &str, body: &Value| server.client.post(path, &headers, &body.to_string());
        let good = video(20);
        for odd in [
            "\0",
            "a\0b",
            "\u{202e}اسم",
            "שלום",
            "🎬👩‍👩‍👧",
            "\u{fffd}\u{feff}",
        ] {
            let with = |field: &str| {
                let mut event = json!({"event_id": user(1), "kind": "view", "video_id": good});
                event[field] = json!(odd);
                json!({ "events": [event] })
            };
            for (path, body, field) in [
                (RECOMMENDATIONS, json!({ "limit": odd }), "`limit`"),
                (RECOMMENDATIONS, json!({ "seed": odd }), "`seed`"),
                (RECOMMENDATIONS, json!({ odd: 1 }), "unknown field `"),
                (
                    RECOMMENDATIONS,
                    json!({"filter": { odd: {} }}),
                    "unknown field `filter.",
                ),
                (RECOMMENDATIONS, json!({ "filter": odd }), "`filter`"),
                (SIMILAR_VIDEOS, json!({ "video_id": odd }), "`video_id`"),
                (EVENTS, with("event_id"), "`events[0].event_id`"),
                (EVENTS, with("kind"), "`events[0].kind`"),
                (EVENTS, with("video_id"), "`events[0].video_id`"),
                (EVENTS, with("at"), "`events[0].at`"),
                (EVENTS, with(odd), "unknown field `events[0]."),
            ] {
                let (status, code, message) = post(path, &body).error();
                assert_eq!((status, &*code), (400, "invalid_request"), "{body}");
                assert!(message.contains(field), "{body}: {message}");
                let told = ['\0', '\u{202e}', '\u{feff}'];
                assert!(!message.contains(told), "{body}: {message:?}");
            }
            // Names of no video.
            let filter = json!({"filter": {"tags": {"any": [odd]}, "makers": {"none": [odd]}}});
            let answer = post(RECOMMENDATIONS, &filter).json();
            assert_eq!(answer["reason"], "catalogue_exhausted", "{answer}");
            // PostgreSQL cannot store a text with NUL.
            let status = post(EVENTS, &with("request_id")).status;
            let expected = if odd.contains('\0') { 400 } else { 200 };
            assert_eq!(status, expected, "{odd:?}");
        }
    }
}

#[test]
fn content_type_and_size_are_checked() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let authorization = format!("Bearer {}", token(user(1)));
    let post = |content_type: &str, body: &str| {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", content_type),
        ];
        server.client.post(RECOMMENDATIONS, &headers, body)
    };
    assert_eq!(post("application/json; charset=utf-8", "{}").status, 200);
    assert_eq!(post("text/plain", "{}").error().0, 400);
    let (status, code, message) = post("application/json", &" ".repeat(64 * 1024 + 1)).error();
    assert_eq!((status, code.as_str()), (413, "payload_too_large"));
    assert_eq!(message, "the body is larger than 65536 bytes");
}

#[test]
fn other_addresses_and_methods() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    for path in [
        "/",
        "/nothing",
        "/model",
        "/console/session",
        "/functions/v1/",
    ] {
        let (status, code, _) = server.client.get(path, &[]).error();
        assert_eq!((status, code.as_str()), (404, "not_found"), "{path}");
    }
    let answer = server.client.get(RECOMMENDATIONS, &[]);
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), "POST");
}

#[test]
fn the_request_id_is_taken_over_if_it_is_plain() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let id = |value: &str| {
        let answer = server.client.get("/healthz", &[("x-request-id", value)]);
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(id("order-66.b"), "order-66.b");
    assert_eq!(id("two words").len(), 16);
}

#[test]
fn a_refused_request_does_not_take_the_next_one_along() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let json = [("content-type", "application/json")];
    for path in [RECOMMENDATIONS, "/nothing", "/healthz"] {
        for _ in 0..50 {
            let refused = server.client.post(path, &json, "{}");
            assert!(
                (400..500).contains(&refused.status),
                "{path}: {}",
                refused.status
            );
        }
    }
    let large = "x".repeat(500_000);
    assert_eq!(
        server.client.post(RECOMMENDATIONS, &json, &large).error().0,
        413
    );
    assert_eq!(server.client.recommend(&token(user(1)), "{}").status, 200);
}
