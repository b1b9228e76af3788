//! The lease while a publisher is in the middle of a write.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::time::{Duration, Instant};
use twotower_store::{
    EmbeddingRow, Lease, LeaseHolder, LeaseOutcome, Store, StoreError, VectorTable,
};
use uuid::Uuid;

const LONG: Duration = Duration::from_mins(10);

async fn ask(store: &Store, pid: u32, lifetime: Duration) -> LeaseOutcome {
    let asking = LeaseHolder {
        host: "host".into(),
        pid,
        since_us: 1,
    };
    store.take_lease(&asking, lifetime).await.unwrap()
}

async fn taken(store: &Store, pid: u32, lifetime: Duration) -> Lease {
    match ask(store, pid, lifetime).await {
        LeaseOutcome::Taken(lease) => lease,
        LeaseOutcome::Held(other) => panic!("{other:?} holds the lease"),
    }
}

/// A write that began under a lease ends under it: heartbeats succeed, a takeover does not.
#[tokio::test]
async fn nobody_takes_over_in_the_middle_of_a_write() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let lease = taken(&store, 1, Duration::ZERO).await;
    let mut writing = PgConnection::connect(&url).await.unwrap();
    writing
        .execute("BEGIN; SELECT FROM twotower.publisher FOR KEY SHARE")
        .await
        .unwrap();
    let clock = Instant::now();
    assert!(matches!(ask(&store, 2, LONG).await, LeaseOutcome::Held(_)));
    store.renew_lease(lease).await.unwrap();
    assert!(clock.elapsed() < Duration::from_secs(5), "nobody waits");
    writing.execute("COMMIT").await.unwrap();
    taken(&store, 2, LONG).await;
}

/// A replica that becomes the primary may lack the commit by which the lease was taken.
#[tokio::test]
async fn a_lease_that_a_failover_has_lost_is_not_given_again() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let read = "SELECT fence::text FROM twotower.publisher";
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let before: String = connection.fetch_one(read).await.unwrap().get(0);
    let lost = taken(&store, 1, LONG).await;
    let back = format!("UPDATE twotower.publisher SET fence = {before}, expires_at = '-infinity'");
    connection.execute(AssertSqlSafe(back)).await.unwrap();
    let lease = taken(&store, 2, LONG).await;
    let error = store.renew_lease(lost).await.unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost), "{error}");
    store.renew_lease(lease).await.unwrap();
}

/// A write that waits for a lock meanwhile detects the takeover afterwards.
#[tokio::test]
async fn a_write_that_begins_after_a_takeover_fails() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let sleeper = store.under(taken(&store, 1, LONG).await);
    let mut takeover = PgConnection::connect(&url).await.unwrap();
    takeover
        .execute("BEGIN; UPDATE twotower.publisher SET fence = fence + 1")
        .await
        .unwrap();
    let rows = [EmbeddingRow {
        id: Uuid::from_u128(1),
        fingerprint: 0,
        vector: &[0.6, 0.8],
    }];
    let write = sleeper.write_embeddings(VectorTable::Users, 1, &rows);
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        takeover.execute("COMMIT").await.unwrap();
    };
    let (written, ()) = tokio::join!(write, commit);
    assert!(matches!(written, Err(StoreError::LeaseLost)), "{written:?}");
}

/// A clock that was set back has left a killed publisher's lease expiring a day ahead.
#[tokio::test]
async fn a_lease_that_ends_later_than_any_could_is_over() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let old = taken(&store, 1, LONG).await;
    assert!(matches!(ask(&store, 2, LONG).await, LeaseOutcome::Held(_)));
    // A lifetime up to the maximum is plausible.
    let ends = "UPDATE twotower.publisher SET expires_at = clock_timestamp() + interval";
    execute(&url, &format!("{ends} '59 minutes'")).await;
    assert!(matches!(ask(&store, 2, LONG).await, LeaseOutcome::Held(_)));
    execute(&url, &format!("{ends} '1 day'")).await;
    taken(&store, 2, LONG).await;
    assert!(matches!(
        store.renew_lease(old).await,
        Err(StoreError::LeaseLost)
    ));
    // A longer lifetime is not granted.
    taken(&store, 2, 24 * Lease::LONGEST).await;
    assert!(matches!(ask(&store, 3, LONG).await, LeaseOutcome::Held(_)));
}

/// Transient errors are distinguished from permanent ones.
#[tokio::test]
async fn an_outage_is_told_from_a_refusal() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    execute(&url, "DROP TABLE twotower.publisher").await;
    let asking = LeaseHolder {
        host: String::new(),
        pid: 1,
        since_us: 1,
    };
    let refused = store.take_lease(&asking, LONG).await.unwrap_err();
    assert!(!refused.is_outage(), "{refused}");
    let nobody = Store::connect("postgresql://me@127.0.0.1:1/db", few_connections()).await;
    assert!(nobody.unwrap_err().is_outage());
    let (place, _) = url.rsplit_once('/').unwrap();
    let unknown = Store::connect(&format!("{place}/no_such_database"), few_connections()).await;
    assert!(!unknown.unwrap_err().is_outage());
}
