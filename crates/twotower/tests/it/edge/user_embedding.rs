//! The vector that `update_user_embedding` writes equals that of our user tower.

use super::project::{Project, UPDATE};
use crate::serve::fixture::{catalogue, model, token, user, video};
use serde_json::json;
use twotower_store::InteractionKind::{Like, Skip};
use twotower_store::VectorTable;

#[test]
fn it_is_that_of_the_history_of_now() {
    let project = Project::new();
    let (fixture, function) = (&project.fixture, project.function(UPDATE));
    let likes = [20, 27, 33].map(video);
    fixture.interact(Like, user(500), &likes);
    fixture.interact(Skip, user(500), &[video(5)]);
    let answer = function.post(&token(user(500)), "{}");
    let expected = json!({"user_id": user(500), "model_version": project.version, "updated": true});
    assert_eq!(answer.json(), expected);

    let read = fixture
        .store
        .read_embeddings(VectorTable::Users, project.version, 8);
    let (order, vectors) = fixture.runtime.block_on(read).unwrap();
    let own = vectors.row(order.binary_search(&user(500)).unwrap());
    let model = model(1);
    let videos = model.embed_videos(&catalogue()).unwrap();
    let history = model
        .user_tower
        .history([20, 27, 33].map(|n| videos.row(n - 1)), [videos.row(4)]);
    let tower = model.user_tower.embed(&history).unwrap();
    for (a, b) in own.iter().zip(&tower) {
        assert!((a - b).abs() <= 1e-5, "{own:?} {tower:?}");
    }
    assert_eq!(function.post(&token(user(500)), "").json(), expected);
}

#[test]
fn without_history_or_weights_nothing_is_written() {
    let project = Project::without_model_files();
    let function = project.function(UPDATE);
    let answer = function.post(&token(user(900)), "{}").json();
    assert_eq!(
        (&answer["updated"], &answer["reason"]),
        (&json!(false), &json!("no_history"))
    );
    let (status, code, _) = function.post(&token(user(1)), "{}").error();
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    let (status, _, message) = function
        .post(&token(user(1)), r#"{"user_id": "x"}"#)
        .error();
    assert_eq!(status, 400);
    assert!(message.contains("no fields"));
    let written = crate::support::sql(&project.fixture.url, "SELECT count(*) FROM user_embeddings");
    assert_eq!(written, "0");
}
