//! Erasures, and direct writes to the tables during and after them.

mod in_line;

use super::functions::circle;
use super::person::{ANN, BOB, Person, video};
use super::stand_in::Place;
use crate::database::{empty_postgres_url, execute, few_connections};
use serde_json::json;
use std::time::Duration;
use twotower_store::{ErasePlan, Store, StoreError};
use uuid::Uuid;

/// A row of `user` for each table into which users may write.
fn writes(user: Uuid) -> [String; 3] {
    let liked = video(9);
    [
        format!("INSERT INTO likes (user_id, video_id) VALUES ('{user}', '{liked}')"),
        format!("INSERT INTO skips (user_id, video_id) VALUES ('{user}', '{liked}')"),
        format!(
            "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{user}', 'tag', 'x')"
        ),
    ]
}

/// Somebody who used the app before signing in.
const GUEST: Uuid = Uuid::from_u128(0x9e57);

/// A row of [`GUEST`] for each table that users may write into, and the statement that hands it to
/// `user`.
fn moves(user: Uuid) -> [(String, String); 3] {
    let hand = |table| format!("UPDATE {table} SET user_id = '{user}' WHERE user_id = '{GUEST}'");
    let [like, skip, block] = writes(GUEST);
    [
        (like, hand("likes")),
        (skip, hand("skips")),
        (block, hand("recommendation_blocks")),
    ]
}

async fn rows_of(owner: &mut Person, user: Uuid) -> i64 {
    let rows = |table| format!("(SELECT count(*) FROM {table} WHERE user_id = '{user}')");
    let count = ["likes", "skips", "recommendation_blocks"].map(rows);
    let count = owner.value(&count.join(" + ")).await.unwrap();
    count.as_i64().unwrap()
}

/// Waits until a lock of any kind is waited for.
async fn somebody_waits_for_a_lock(owner: &mut Person) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while owner.value(waiting).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until an advisory lock is waited for.
pub(super) async fn somebody_waits(owner: &mut Person) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while owner.value(waiting).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_was_erased_writes_nothing_any_more() {
    let url = circle(Place::Supabase).await;
    let (mut ann, mut owner) = (Person::user(&url, ANN).await, Person::owner(&url).await);
    ann.value("erase_me()").await.unwrap();
    for write in writes(ANN) {
        let Err(sqlx::Error::Database(error)) = ann.run(&write).await else {
            panic!("{write} is taken");
        };
        assert_eq!(error.code().as_deref(), Some("42501"), "{write}");
        // Nor can others write for her.
        owner.run(&write).await.unwrap();
    }
    assert_eq!(rows_of(&mut owner, ANN).await, 0);
    // Other users' rows in the same statement stay.
    let before = rows_of(&mut owner, BOB).await;
    let both = format!(
        "INSERT INTO recommendation_blocks (user_id, kind, value)
         VALUES ('{ANN}', 'tag', 'x'), ('{BOB}', 'tag', 'x')"
    );
    owner.run(&both).await.unwrap();
    assert_eq!(rows_of(&mut owner, ANN).await, 0);
    assert_eq!(rows_of(&mut owner, BOB).await, before + 1);
}

#[tokio::test]
async fn what_is_being_written_is_waited_for_and_deleted() {
    for write in writes(ANN) {
        let url = circle(Place::Plain).await;
        let (mut ann, mut owner) = (Person::user(&url, ANN).await, Person::owner(&url).await);
        let mut watching = Person::owner(&url).await;
        ann.run(&format!("BEGIN; {write}")).await.unwrap();
        let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
        let commit = async {
            somebody_waits(&mut watching).await;
            ann.run("COMMIT").await.unwrap();
        };
        let (erased, ()) = tokio::join!(owner.value(&erase), commit);
        assert_eq!(erased.unwrap(), true);
        assert_eq!(rows_of(&mut owner, ANN).await, 0, "{write}");
    }
}

#[tokio::test]
async fn what_waited_for_an_erasure_does_not_stay() {
    for write in writes(ANN) {
        let url = circle(Place::Plain).await;
        let (mut ann, mut erasing) = (Person::user(&url, ANN).await, Person::owner(&url).await);
        let mut watching = Person::owner(&url).await;
        let erase = format!("BEGIN; SELECT FROM twotower.erase_user('{ANN}')");
        erasing.run(&erase).await.unwrap();
        let commit = async {
            somebody_waits(&mut watching).await;
            erasing.run("COMMIT").await.unwrap();
        };
        // Refused by the policy, or deleted again: PostgreSQL decides which.
        let (_, ()) = tokio::join!(ann.run(&write), commit);
        assert_eq!(rows_of(&mut watching, ANN).await, 0, "{write}");
    }
}

#[tokio::test]
async fn rows_that_are_handed_to_an_erased_user_do_not_stay() {
    let url = circle(Place::Plain).await;
    let mut owner = Person::owner(&url).await;
    let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
    owner.value(&erase).await.unwrap();
    for (write, hand) in moves(ANN) {
        owner.run(&write).await.unwrap();
        owner.run(&hand).await.unwrap();
        assert_eq!(rows_of(&mut owner, ANN).await, 0, "{hand}");
    }
    assert_eq!(rows_of(&mut owner, GUEST).await, 0);
    // Others get what they are handed.
    let before = rows_of(&mut owner, BOB).await;
    for (write, hand) in moves(BOB) {
        owner.run(&write).await.unwrap();
        owner.run(&hand).await.unwrap();
    }
    assert_eq!(rows_of(&mut owner, BOB).await, before + 3);
}

#[tokio::test]
async fn rows_that_are_being_handed_over_are_waited_for_and_deleted() {
    for (write, hand) in moves(ANN) {
        let url = circle(Place::Plain).await;
        let (mut app, mut owner) = (Person::owner(&url).await, Person::owner(&url).await);
        let mut watching = Person::owner(&url).await;
        app.run(&write).await.unwrap();
        app.run(&format!("BEGIN; {hand}")).await.unwrap();
        let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
        let commit = async {
            somebody_waits(&mut watching).await;
            app.run("COMMIT").await.unwrap();
        };
        let (erased, ()) = tokio::join!(owner.value(&erase), commit);
        assert_eq!(erased.unwrap(), true);
        assert_eq!(rows_of(&mut owner, ANN).await, 0, "{hand}");
    }
}

/// A restoration holds its lock for long. An erasure waits for that, but nobody waits for the
/// erasure: neither now nor in the end.
#[tokio::test]
async fn an_erasure_that_waits_keeps_nobody_else_waiting() {
    let url = circle(Place::Plain).await;
    let mut restoring = Person::owner(&url).await;
    let hold = "BEGIN; SELECT pg_advisory_xact_lock_shared(7310012293695300979)";
    restoring.run(hold).await.unwrap();
    let (mut owner, mut watching) = (Person::owner(&url).await, Person::owner(&url).await);
    let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
    let others = async {
        somebody_waits(&mut watching).await;
        let mut bob = Person::user(&url, BOB).await;
        bob.run("SET statement_timeout = '5s'").await.unwrap();
        for n in [1, 2, 9, 10] {
            let like = format!("like_video('{}')", video(n));
            bob.value(&like).await.unwrap();
        }
        restoring.run("COMMIT").await.unwrap();
    };
    let (erased, ()) = tokio::join!(owner.value(&erase), others);
    assert_eq!(erased.unwrap(), true);
    let timeout = owner.value("current_setting('lock_timeout')").await;
    assert_eq!(timeout.unwrap(), "0", "it is as it was before");
}

/// Nor for one that needs a row locked by another transaction, in its own tables or for one of the
/// operator's statements.
#[tokio::test]
async fn an_erasure_that_meets_a_locked_row_keeps_nobody_else_waiting() {
    let own = "SELECT FROM likes WHERE user_id = 'aaaaaaaa-0000-4000-8000-000000000000' FOR UPDATE";
    for held in [own, "SELECT FROM profiles FOR UPDATE"] {
        let url = circle(Place::Plain).await;
        execute(
            &url,
            &format!("CREATE TABLE profiles (id uuid); INSERT INTO profiles VALUES ('{ANN}')"),
        )
        .await;
        let mut holding = Person::owner(&url).await;
        holding.run(&format!("BEGIN; {held}")).await.unwrap();
        let store = Store::connect(&url, few_connections()).await.unwrap();
        let plan = ErasePlan {
            likes: true,
            skips: true,
            statements: vec!["DELETE FROM profiles WHERE id = $1".into()],
        };
        let mut watching = Person::owner(&url).await;
        let others = async {
            somebody_waits_for_a_lock(&mut watching).await;
            let mut bob = Person::user(&url, BOB).await;
            bob.run("SET statement_timeout = '5s'").await.unwrap();
            for n in [1, 2, 9, 10] {
                let like = format!(
                    "INSERT INTO likes (user_id, video_id) VALUES ('{BOB}', '{}')",
                    video(n)
                );
                bob.run(&like).await.unwrap();
            }
            holding.run("COMMIT").await.unwrap();
        };
        let (erased, ()) = tokio::join!(store.erase_user(ANN, &plan), others);
        let erased = erased.unwrap();
        assert_eq!((erased.likes, erased.statements), (2, vec![1]), "{held}");
        assert_eq!(rows_of(&mut watching, ANN).await, 0);
        let timeout = watching.value("current_setting('lock_timeout')").await;
        assert_eq!(timeout.unwrap(), "0");
    }
}

/// Rows of one user may be many, and nobody else waits while they are deleted.
#[tokio::test]
async fn an_erasure_deletes_before_it_takes_the_lock() {
    let url = circle(Place::Plain).await;
    let (mut holding, mut owner) = (Person::owner(&url).await, Person::owner(&url).await);
    let mut watching = Person::owner(&url).await;
    let held = format!("BEGIN; SELECT FROM likes WHERE user_id = '{ANN}' FOR UPDATE");
    holding.run(&held).await.unwrap();
    let erase = format!("(SELECT likes_deleted FROM twotower.erase_user('{ANN}'))");
    // It waits for the row without the lock. Every other try takes the lock first.
    let waits = "(SELECT count(*) FROM pg_locks AS waiting WHERE NOT waiting.granted AND waiting.locktype = 'transactionid' AND NOT EXISTS (
                      SELECT FROM pg_locks AS held
                      WHERE held.pid = waiting.pid AND held.locktype = 'advisory' AND held.mode = 'ExclusiveLock'
                  ) AND waiting.pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database()))";
    let watch = async {
        while watching.value(waits).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        holding.run("COMMIT").await.unwrap();
    };
    let (erased, ()) = tokio::join!(owner.value(&erase), watch);
    assert_eq!(erased.unwrap(), 2);
    assert_eq!(rows_of(&mut watching, ANN).await, 0);
}

/// An erasure gives up, and the error names the blocking process: a retry is useless until that
/// ends.
#[tokio::test]
async fn an_erasure_that_waits_in_vain_says_for_whom() {
    let url = circle(Place::Plain).await;
    let (_, database) = url.rsplit_once('/').unwrap();
    let patience = format!("ALTER DATABASE {database} SET twotower.erasure_patience = '1 s'");
    execute(&url, &patience).await;
    let mut holding = Person::owner(&url).await;
    let pid = holding.value("pg_backend_pid()").await.unwrap();
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let plan = ErasePlan {
        likes: true,
        skips: true,
        statements: Vec::new(),
    };
    let before = rows_of(&mut holding, ANN).await;
    for hold in [
        "SELECT FROM likes FOR UPDATE",
        "SELECT pg_advisory_xact_lock_shared(7310012293695300979)",
    ] {
        holding.run(&format!("BEGIN; {hold}")).await.unwrap();
        let keeps = format!("process {pid} of the server keeps a lock on rows of this user");
        // A busy machine may miss the moments in which the server reports it.
        for left in (0..10).rev() {
            let error = store.erase_user(ANN, &plan).await.unwrap_err();
            assert!(matches!(error, StoreError::EraseLocked { .. }), "{error}");
            assert!(error.is_transient() && !error.is_outage(), "{hold}");
            if error.to_string().contains(&keeps) {
                break;
            }
            assert!(left > 0, "{hold}: {error}");
        }
        holding.run("COMMIT").await.unwrap();
        assert_eq!(rows_of(&mut holding, ANN).await, before, "{hold}");
    }
    let erased = store.erase_user(ANN, &plan).await.unwrap();
    assert!(erased.first_time);
    assert_eq!(rows_of(&mut holding, ANN).await, 0);
}

/// The same with a row that one of the operator's statements needs: the erasure is all or nothing.
#[tokio::test]
async fn a_statement_of_the_operators_that_waits_in_vain_says_for_whom() {
    let url = circle(Place::Plain).await;
    let (_, database) = url.rsplit_once('/').unwrap();
    execute(
        &url,
        &format!(
            "ALTER DATABASE {database} SET twotower.erasure_patience = '1 s';
             CREATE TABLE notes (member uuid); INSERT INTO notes VALUES ('{ANN}'), ('{ANN}'), ('{BOB}');
             CREATE TABLE profiles (id uuid); INSERT INTO profiles VALUES ('{ANN}'), ('{BOB}')"
        ),
    )
    .await;
    let mut holding = Person::owner(&url).await;
    let pid = holding.value("pg_backend_pid()").await.unwrap();
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let plan = ErasePlan {
        likes: true,
        skips: true,
        statements: vec![
            "DELETE FROM notes WHERE member = $1".into(),
            "DELETE FROM profiles WHERE id = $1".into(),
        ],
    };
    let elsewhere = "(SELECT count(*) FROM notes) + (SELECT count(*) FROM profiles)";
    let before = rows_of(&mut holding, ANN).await;
    assert!(before > 0);
    holding
        .run("BEGIN; SELECT FROM profiles FOR UPDATE")
        .await
        .unwrap();
    let keeps =
        format!("process {pid} of the server keeps a lock on what statement 2 of [erase] wants");
    // A busy machine may miss the moments in which the server reports it.
    for left in (0..10).rev() {
        let error = store.erase_user(ANN, &plan).await.unwrap_err();
        assert!(matches!(error, StoreError::EraseLocked { .. }), "{error}");
        assert!(error.is_transient() && !error.is_outage());
        if error.to_string().contains(&keeps) {
            break;
        }
        assert!(left > 0, "{error}");
    }
    assert_eq!(rows_of(&mut holding, ANN).await, before);
    assert_eq!(holding.value(elsewhere).await.unwrap(), 5);
    assert!(store.erased_users(&[ANN]).await.unwrap().is_empty());
    holding.run("COMMIT").await.unwrap();
    let erased = store.erase_user(ANN, &plan).await.unwrap();
    assert_eq!((erased.first_time, erased.statements), (true, vec![2, 1]));
    assert_eq!(rows_of(&mut holding, ANN).await, 0);
    assert_eq!(holding.value(elsewhere).await.unwrap(), 2);
    assert_eq!(store.erased_users(&[ANN]).await.unwrap(), [ANN]);
}

/// The holder of a row may want to write another row next, and would then wait for the erasure,
/// which waits for it.
#[tokio::test]
async fn an_erasure_between_two_statements_of_the_same_user_is_no_deadlock() {
    let url = circle(Place::Plain).await;
    let (mut ann, mut owner) = (Person::user(&url, ANN).await, Person::owner(&url).await);
    let mut watching = Person::owner(&url).await;
    ann.run("BEGIN; DELETE FROM likes").await.unwrap();
    let erase = format!("(SELECT skips_deleted FROM twotower.erase_user('{ANN}'))");
    let other = async {
        somebody_waits_for_a_lock(&mut watching).await;
        let skip = format!(
            "INSERT INTO skips (user_id, video_id) VALUES ('{ANN}', '{}')",
            video(9)
        );
        ann.run(&skip).await.unwrap();
        ann.run("COMMIT").await.unwrap();
    };
    let (erased, ()) = tokio::join!(owner.value(&erase), other);
    assert_eq!(erased.unwrap(), 2);
    assert_eq!(rows_of(&mut owner, ANN).await, 0);
}

/// Ids that are text: the usual spellings are found by an index, and others by reading the table.
#[tokio::test]
async fn text_ids_are_erased_however_they_are_spelled_and_found_by_index() {
    for kind in ["text", "varchar(40)", "citext", "code"] {
        let url = empty_postgres_url().await;
        let (text, plain) = (ANN.to_string(), ANN.simple().to_string());
        let usual = [&text, &plain, &text.to_uppercase(), &plain.to_uppercase()]
            .map(|id| format!("('{id}'), ('{{{id}}}')"));
        let odd = [
            text.replacen('a', "A", 1),
            format!("{}-{}", &plain[..4], &plain[4..]),
        ]
        .map(|id| format!("('{id}')"));
        execute(
            &url,
            &format!(
                "CREATE EXTENSION IF NOT EXISTS citext;
                 CREATE DOMAIN code AS varchar(40) CHECK (length(VALUE) > 31);
                 CREATE TABLE likes (user_id {kind}, video_id uuid, created_at timestamptz DEFAULT now(), PRIMARY KEY (user_id, video_id));
                 CREATE TABLE skips (LIKE likes INCLUDING ALL);
                 INSERT INTO likes (user_id, video_id) SELECT gen_random_uuid()::text, gen_random_uuid() FROM generate_series(1, 5000);
                 INSERT INTO likes (user_id, video_id) SELECT id, gen_random_uuid() FROM (VALUES {}) AS _ (id);
                 INSERT INTO skips SELECT * FROM likes; ANALYZE likes, skips",
                [&usual[..], &odd].concat().join(", ")
            ),
        )
        .await;
        let store = Store::connect(&url, few_connections()).await.unwrap();
        store.migrate().await.unwrap();
        let mut owner = Person::owner(&url).await;
        if kind == "text" {
            let plan = format!("EXPLAIN SELECT FROM likes WHERE user_id = '{ANN}'::uuid");
            let plan = owner.lines(&plan).await.unwrap();
            assert!(plan.contains("likes_pkey"), "{plan}");
        }
        let erase = format!("(SELECT likes_deleted FROM twotower.erase_user('{ANN}'))");
        let deleted = owner.value(&erase).await.unwrap();
        // To citext letters of both cases are the same.
        let is_citext = kind == "citext";
        assert_eq!(deleted, json!(if is_citext { 9 } else { 8 }), "{kind}");
        let plan = ErasePlan {
            likes: true,
            skips: true,
            statements: Vec::new(),
        };
        let again = store.erase_user(ANN, &plan).await.unwrap();
        let left = if is_citext { 1 } else { 2 };
        assert_eq!((again.likes, again.skips), (left, left), "{kind}");
        for table in ["likes", "skips"] {
            let count = format!("(SELECT count(*) FROM {table})");
            assert_eq!(owner.value(&count).await.unwrap(), 5000, "{kind}");
        }
    }
}
