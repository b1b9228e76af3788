//! A publisher that is suspended between checking its lease and dropping or building an index.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{Connection, Executor, PgConnection, Row};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use twotower_store::{
    ConnectOptions, EmbeddingRow, IndexOutcome, IndexPlan, Lease, LeaseHolder, LeaseOutcome, Store,
    StoreError, VectorTable,
};
use uuid::Uuid;

const PLAN: IndexPlan = IndexPlan {
    version: 1,
    dim: 2,
    rows: 1,
    memory_cap_mb: 64,
};

/// Makes the index what a killed build leaves.
const INVALIDATE: &str = "UPDATE pg_index SET indisvalid = false
     WHERE indexrelid = 'public.video_embeddings_hnsw_1'::regclass";

/// OID of the index.
async fn index(url: &str) -> Option<i64> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let oid = "SELECT to_regclass('public.video_embeddings_hnsw_1')::oid::bigint";
    connection.fetch_one(oid).await.unwrap().get(0)
}

/// A TCP proxy to the server. While it is closed, new connections wait.
#[derive(Clone, Default)]
struct Gate {
    closed: Arc<AtomicBool>,
    arrived: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    /// Starts the proxy; returns the database's address through it.
    async fn before(&self, url: &str) -> String {
        let (_, rest) = url.split_once('@').unwrap();
        let (server, _) = rest.split_once('/').unwrap();
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let through = url.replace(&server, &format!("127.0.0.1:{port}"));
        let gate = self.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (gate, server) = (gate.clone(), server.clone());
                tokio::spawn(async move {
                    if gate.closed.load(Ordering::SeqCst) {
                        gate.arrived.notify_one();
                        gate.open.notified().await;
                    }
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either side may close the connection.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        through
    }
}

async fn taken(store: &Store, pid: u32) -> Lease {
    let holder = LeaseHolder {
        host: "host".into(),
        pid,
        since_us: i64::from(pid),
    };
    let lifetime = Duration::from_mins(10);
    match store.take_lease(&holder, lifetime).await.unwrap() {
        LeaseOutcome::Taken(lease) => lease,
        LeaseOutcome::Held(other) => panic!("{other:?} holds the lease"),
    }
}

#[tokio::test]
async fn an_index_is_left_to_the_next_publisher() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let rows = [EmbeddingRow {
        id: Uuid::from_u128(1),
        fingerprint: 0,
        vector: &[0.6, 0.8],
    }];
    let written = store.write_embeddings(VectorTable::Videos, 1, &rows);
    written.await.unwrap();
    let gate = Gate::default();
    let one = ConnectOptions {
        max_connections: 1,
        ..ConnectOptions::default()
    };
    let through = gate.before(&url).await;
    let sleeper = Store::connect(&through, one).await.unwrap();
    sleeper.ping().await.unwrap();
    gate.closed.store(true, Ordering::SeqCst);
    // The lease is taken over while the publisher connects.
    let mut pid = 0;
    let mut lease = taken(&store, pid).await;
    // Without an index, with one, and with the remains of a killed build.
    for (drops, remains) in [(false, false), (true, false), (false, true)] {
        if remains {
            execute(&url, INVALIDATE).await;
        }
        let before = index(&url).await;
        let asleep = sleeper.under(lease);
        let call = async {
            if drops {
                asleep.drop_vector_index(1).await.map(drop)
            } else {
                asleep.build_vector_index(&PLAN).await.map(drop)
            }
        };
        let meanwhile = async {
            gate.arrived.notified().await;
            store.release_lease(lease).await.unwrap();
            pid += 1;
            let next = taken(&store, pid).await;
            gate.open.notify_one();
            next
        };
        let (outcome, next) = tokio::join!(call, meanwhile);
        assert!(matches!(outcome, Err(StoreError::LeaseLost)), "{outcome:?}");
        assert_eq!(index(&url).await, before);
        lease = next;
        let outcome = store.build_vector_index(&PLAN).await.unwrap();
        let is_new = matches!(outcome, IndexOutcome::Built { .. });
        assert_eq!(is_new, !drops, "{outcome:?}");
    }
}

/// A role that owns no table builds the index by a function.
#[tokio::test]
async fn an_index_is_left_to_the_next_publisher_by_a_role_that_owns_nothing() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let role = format!("twotower_builder_{}", std::process::id());
    let setup = format!(
        "CREATE ROLE {role} LOGIN; GRANT twotower_updater TO {role};
         INSERT INTO twotower.models (version, state, embedding_dim, snapshot_sha256, hyperparameters, metrics, manifest_sha256)
         VALUES (1, 'loading', 2, '', '{{}}', '{{}}', '')"
    );
    execute(&url, &setup).await;
    let gate = Gate::default();
    let one = ConnectOptions {
        max_connections: 1,
        ..ConnectOptions::default()
    };
    let through = gate.before(&url).await;
    let through = through.replace("postgres@", &format!("{role}@"));
    let sleeper = Store::connect(&through, one).await.unwrap();
    sleeper.ping().await.unwrap();
    gate.closed.store(true, Ordering::SeqCst);
    let lease = taken(&store, 0).await;
    let asleep = sleeper.under(lease);
    let meanwhile = async {
        gate.arrived.notified().await;
        store.release_lease(lease).await.unwrap();
        let next = taken(&store, 1).await;
        gate.open.notify_one();
        next
    };
    let (outcome, next) = tokio::join!(asleep.build_vector_index(&PLAN), meanwhile);
    assert!(matches!(outcome, Err(StoreError::LeaseLost)), "{outcome:?}");
    assert_eq!(index(&url).await, None);
    gate.closed.store(false, Ordering::SeqCst);
    let outcome = sleeper.under(next).build_vector_index(&PLAN).await;
    assert!(
        matches!(outcome, Ok(IndexOutcome::Built { .. })),
        "{outcome:?}"
    );
    assert!(index(&url).await.is_some());
    sleeper.close().await;
    execute(&url, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
