//! The limit on a user's blocks.

use super::erasure::somebody_waits;
use super::functions::circle;
use super::person::{ANN, BOB, Person};
use super::stand_in::Place;
use serde_json::json;

/// Blocks tags `from` to `to` for Ann.
fn blocks(from: u32, to: u32) -> String {
    format!(
        "INSERT INTO recommendation_blocks (user_id, kind, value)
         SELECT '{ANN}', 'tag', n::text FROM generate_series({from}, {to}) AS n ON CONFLICT DO NOTHING"
    )
}

/// The SQLSTATE with which Ann is refused.
async fn refused(ann: &mut Person, statement: &str) -> String {
    match ann.run(statement).await {
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        other => panic!("{statement}: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_blocks_so_much_and_no_more() {
    for place in Place::ALL {
        let url = circle(place).await;
        let (mut ann, mut owner) = (Person::user(&url, ANN).await, Person::owner(&url).await);
        assert_eq!(refused(&mut ann, &blocks(1, 10_001)).await, "23514");
        assert_eq!(ann.run(&blocks(1, 9_999)).await.unwrap(), 9_999);
        assert_eq!(ann.run(&blocks(10_000, 10_000)).await.unwrap(), 1);
        assert_eq!(refused(&mut ann, &blocks(10_001, 10_001)).await, "23514");
        // An existing block is not new, and a removed one makes room.
        assert_eq!(ann.run(&blocks(1, 10)).await.unwrap(), 0);
        let back = "DELETE FROM recommendation_blocks WHERE value = '1'";
        assert_eq!(ann.run(back).await.unwrap(), 1);
        assert_eq!(ann.run(&blocks(10_001, 10_001)).await.unwrap(), 1);
        // The limit is per user, and does not apply without a user's token.
        let mut bob = Person::user(&url, BOB).await;
        let his = blocks(1, 1).replace(&ANN.to_string(), &BOB.to_string());
        assert_eq!(bob.run(&his).await.unwrap(), 1);
        assert_eq!(owner.run(&blocks(10_002, 10_003)).await.unwrap(), 2);
        let count = format!("(SELECT count(*) FROM recommendation_blocks WHERE user_id = '{ANN}')");
        assert_eq!(owner.value(&count).await.unwrap(), json!(10_002));
        assert_eq!(refused(&mut ann, &blocks(10_004, 10_004)).await, "23514");
        assert_eq!(ann.run(&blocks(2, 10)).await.unwrap(), 0);
    }
}

/// Each sees only its own rows, and together they would exceed the limit.
#[tokio::test]
async fn requests_at_once_do_not_add_up_to_more() {
    let url = circle(Place::Plain).await;
    let (mut ann, mut again) = (Person::user(&url, ANN).await, Person::user(&url, ANN).await);
    let mut watching = Person::owner(&url).await;
    ann.run(&format!("BEGIN; {}", blocks(1, 10_000)))
        .await
        .unwrap();
    let more = blocks(10_001, 10_001);
    let commit = async {
        somebody_waits(&mut watching).await;
        ann.run("COMMIT").await.unwrap();
    };
    let (refused, ()) = tokio::join!(refused(&mut again, &more), commit);
    assert_eq!(refused, "23514");
}
