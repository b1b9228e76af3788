//! A valid token of an erased user.

use super::fixture::{Fixture, token, user, video};
use serde_json::json;
use twotower::serve::ConsoleAccess;
use twotower::serve::auth::Config;
use twotower_store::ErasePlan;

const ERASED: u128 = 3;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    // Likes remain, as if an old session of the application had written them afterwards.
    let plan = ErasePlan::default();
    let erased = fixture.store.erase_user(user(ERASED), &plan);
    fixture.runtime.block_on(erased).unwrap();
    fixture
}

#[test]
fn their_token_is_refused_and_says_why() {
    let fixture = fixture();
    let server = fixture.serve();
    let answer = server.client.recommend(&token(user(ERASED)), "{}");
    let (status, code, message) = answer.error();
    assert_eq!((status, &*code), (401, "unauthorized"));
    assert_eq!(message, "the user of this token was erased");
    // Other users are not affected.
    server.client.recommended(&token(user(4)), "{}");
}

#[test]
fn the_console_records_nothing_of_them() {
    let fixture = fixture();
    let mut config = fixture.config();
    config.auth = Config::default();
    config.console = ConsoleAccess::Loopback;
    let server = fixture.serve_with(config);
    let own = ("x-twotower-console", "1");
    let json_body = ("content-type", "application/json");
    let body = json!({ "user": user(ERASED) }).to_string();
    let session = server
        .client
        .post("/console/session", &[own, json_body], &body);
    let session = session.json();
    let authorization = format!("Bearer {}", session["token"].as_str().unwrap());
    let headers = [own, json_body, ("authorization", &*authorization)];
    let body = json!({ "video_id": video(30), "kind": "like" }).to_string();
    let answer = server.client.post("/console/interactions", &headers, &body);
    assert_eq!(answer.error().0, 401, "{}", answer.text);
    let answer = server.client.get("/console/history", &headers);
    assert_eq!(answer.error().0, 401, "{}", answer.text);
}
