//! Erasures in tables of our names that the application made, or replaced by views.

use super::{over, text};
use crate::database::{execute, few_connections, postgres_url};
use twotower_store::{ErasePlan, Store};
use uuid::Uuid;

const ANN: Uuid = Uuid::from_u128(0xaaaa_aaaa << 96);

/// An erasure runs with the rights of the function's owner, and anybody who may create objects in
/// some schema can create an operator there.
#[tokio::test]
async fn an_erasure_compares_by_no_operator_of_anybody_else() {
    let (url, store) = over(&format!(
        "CREATE SCHEMA hostile; CREATE SCHEMA letters;
         CREATE EXTENSION citext SCHEMA letters;
         CREATE FUNCTION hostile.run(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run'; END $$;
         CREATE FUNCTION hostile.run(letters.citext, letters.citext) RETURNS boolean LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'run'; END $$;
         CREATE OPERATOR hostile.= (FUNCTION = hostile.run, LEFTARG = varchar, RIGHTARG = varchar);
         CREATE OPERATOR hostile.= (FUNCTION = hostile.run, LEFTARG = letters.citext, RIGHTARG = letters.citext);
         CREATE TABLE likes (user_id varchar(40), video_id uuid, created_at timestamptz DEFAULT now());
         CREATE TABLE skips (user_id letters.citext, video_id uuid, created_at timestamptz DEFAULT now());
         INSERT INTO likes VALUES ('{ANN}', gen_random_uuid());
         INSERT INTO skips VALUES ('AaAa{}', gen_random_uuid())",
        &ANN.to_string()[4..]
    ))
    .await;
    let plan = ErasePlan {
        likes: true,
        skips: true,
        statements: Vec::new(),
    };
    let deleted = "SELECT concat(likes_deleted, ' ', skips_deleted) FROM twotower.erase_user";
    // By the operator of citext, to which letters of both cases are the same.
    let deleted = text(&url, &format!("{deleted}('{ANN}')")).await;
    assert_eq!(deleted, "1 1");
    store.erase_user(ANN, &plan).await.unwrap();
}

/// Statements of `[erase]` for likes that are read from elsewhere can cover skips that are a view.
#[tokio::test]
async fn an_erasure_leaves_a_view_to_the_statements() {
    let url = postgres_url().await;
    let setup = format!(
        "ALTER TABLE skips RENAME TO member_skips;
         CREATE VIEW skips AS SELECT DISTINCT user_id, video_id, created_at FROM member_skips;
         INSERT INTO videos (id) VALUES ('{ANN}');
         INSERT INTO member_skips (user_id, video_id) VALUES ('{ANN}', '{ANN}')"
    );
    execute(&url, &setup).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let mut plan = ErasePlan {
        likes: true,
        skips: true,
        statements: vec!["DELETE FROM member_skips WHERE user_id = $1".into()],
    };
    // With both tables ours, nothing says that the statements cover the view.
    let error = store.erase_user(ANN, &plan).await.unwrap_err();
    assert!(error.to_string().contains("view"), "{error}");
    plan.likes = false;
    let erased = store.erase_user(ANN, &plan).await.unwrap();
    assert_eq!((erased.skips, &erased.statements[..]), (0, &[1][..]));
}
