//! Authentication, and that the database is queried with the caller's token. The matrix of bad
//! tokens is in the functions' own tests.

use super::project::{Project, RECOMMENDATIONS, UPDATE};
use crate::serve::fixture::{SECRET, claims, service_token, sign, token, user};
use crate::serve::public_keys::{self, ec};
use serde_json::json;

#[test]
fn tokens_of_each_kind_name_their_user() {
    let project = Project::new();
    let by_key = public_keys::sign(&ec(), Some("ec"));
    let by_secret = token(user(1));
    // With the secret, and without it: then Auth verifies the token.
    for environment in [&[("TWOTOWER_JWT_SECRET", SECRET)][..], &[]] {
        let function = project.function_with(RECOMMENDATIONS, environment);
        for token in [&by_key, &by_secret] {
            let answer = function.post(token, "{}");
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json()["user_id"], json!(user(1)));
        }
        let mut expired = claims(user(1));
        expired["exp"] = json!(1);
        let mut anonymous = claims(user(1));
        anonymous["role"] = json!("anon");
        let mut unknown = claims(user(1));
        unknown["role"] = json!("editor");
        let cut = &by_secret[..by_secret.len() - 2];
        for token in [
            &sign(&expired),
            &sign(&anonymous),
            &sign(&unknown),
            cut,
            "x",
        ] {
            let (status, code, message) = function.post(token, "{}").error();
            assert_eq!((status, code.as_str()), (401, "unauthorized"));
            assert_eq!(message, "a valid bearer token is required");
        }
    }
    // A role that exists and may not call functions for users.
    let mut trainer = claims(user(1));
    trainer["role"] = json!("twotower_trainer");
    let function = project.function(RECOMMENDATIONS);
    let (status, code, message) = function.post(&sign(&trainer), "{}").error();
    assert_eq!((status, code.as_str()), (403, "forbidden"));
    assert_eq!(message, "the token's role may not ask for this");
    assert_eq!(function.post(&service_token(), "{}").error().0, 403);
    let nobody = function.client.post("/", &[], "{}");
    assert_eq!(nobody.error().0, 401);
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
}

#[test]
fn who_was_erased_is_refused_at_once() {
    let project = Project::new();
    let functions = [RECOMMENDATIONS, UPDATE].map(|name| project.function(name));
    for function in &functions {
        assert_eq!(function.post(&token(user(1)), "{}").status, 200);
    }
    let erased = project.rpc(user(1), "erase_me", &json!({}));
    assert_eq!(erased.status, 200, "{}", erased.text);
    for function in &functions {
        let (status, code, message) = function.post(&token(user(1)), "{}").error();
        assert_eq!((status, code.as_str()), (401, "unauthorized"));
        assert_eq!(message, "the user of this token was erased");
        assert_eq!(function.post(&token(user(2)), "{}").status, 200);
    }
    let left = "SELECT (SELECT count(*) FROM recommendation_cache WHERE user_id = 'ID')
                     + (SELECT count(*) FROM user_embeddings WHERE user_id = 'ID')";
    let left = left.replace("ID", &user(1).to_string());
    assert_eq!(crate::support::sql(&project.fixture.url, &left), "0");
}
