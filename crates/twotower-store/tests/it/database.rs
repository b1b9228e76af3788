//! A fresh, migrated database for each test.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use twotower_store::{ConnectOptions, Store};

/// A store together with its file.
pub(crate) struct TestStore {
    store: Store,
    _folder: Option<TempDir>,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A migrated SQLite file.
pub(crate) async fn sqlite() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    TestStore {
        store,
        _folder: Some(folder),
    }
}

/// A migrated PostgreSQL database, through a pooler where `TWOTOWER_TEST_POOLER` names one (`postgresql://host:port`, in
/// front of the same server).
pub(crate) async fn postgres() -> TestStore {
    let mut url = postgres_url().await;
    if let Ok(pooler) = std::env::var("TWOTOWER_TEST_POOLER") {
        let (_, database) = url.rsplit_once('/').unwrap();
        url = format!("{pooler}/{database}");
    }
    TestStore {
        store: Store::connect(&url, few_connections()).await.unwrap(),
        _folder: None,
    }
}

/// Tests run in parallel, each with its own pool.
pub(crate) fn few_connections() -> ConnectOptions {
    ConnectOptions {
        max_connections: 3,
        ..ConnectOptions::default()
    }
}

/// Address of a new database, cloned from a migrated one.
pub(crate) async fn postgres_url() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE
        .get_or_init(|| async {
            let name = create_database(None).await;
            let store = Store::connect(&at(&name), few_connections()).await.unwrap();
            store.migrate().await.unwrap();
            // A template must have no connections.
            store.close().await;
            name
        })
        .await;
    at(&create_database(Some(template)).await)
}

/// Address of an empty new database.
pub(crate) async fn empty_postgres_url() -> String {
    at(&create_database(None).await)
}

pub(crate) fn server() -> String {
    std::env::var("TWOTOWER_TEST_POSTGRES").expect(
        "this test needs PostgreSQL: run `make test`, or `scripts/test-postgres run cargo test`, \
         which start one and set TWOTOWER_TEST_POSTGRES",
    )
}

fn at(database: &str) -> String {
    let server = server();
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

async fn create_database(template: Option<&str>) -> String {
    // Process ids recur within a run of all tests.
    let unique = RandomState::new().build_hasher().finish();
    let name = format!("twotower_{unique:016x}");
    let template = template.unwrap_or("template1");
    let mut connection = PgConnection::connect(&server()).await.unwrap();
    let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    connection.close().await.unwrap();
    name
}

/// Runs SQL text of any number of statements as the owner.
pub(crate) async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let done = connection.execute(AssertSqlSafe(sql)).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.unwrap();
}
