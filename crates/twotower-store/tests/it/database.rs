//! A fresh, migrated database for each test.

use crate::template;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;
use tempfile::TempDir;
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

/// Address of a new database, cloned from a migrated one that all tests of a run share.
pub(crate) async fn postgres_url() -> String {
    let (name, template) = (new_name(), template::name());
    let clone = format!("CREATE DATABASE {name} TEMPLATE {template}");
    if let Err(error) = on_server(clone.clone()).await {
        let absent = format!("template database \"{template}\" does not exist");
        assert!(error.to_string().contains(&absent), "{clone}: {error}");
        make_template().await;
        on_server(clone).await.unwrap();
    }
    execute(&at(&name), template::OWN_SECRETS).await;
    at(&name)
}

/// Another process may be faster.
async fn make_template() {
    let made = new_name();
    on_server(format!("CREATE DATABASE {made}")).await.unwrap();
    let store = Store::connect(&at(&made), few_connections()).await.unwrap();
    store.migrate().await.unwrap();
    // A template must have no connections.
    store.close().await;
    if on_server(template::offer(&made)).await.is_err() {
        let drop = format!("DROP DATABASE {made}");
        on_server(drop).await.unwrap();
    }
}

/// Address of an empty new database.
pub(crate) async fn empty_postgres_url() -> String {
    let name = new_name();
    on_server(format!("CREATE DATABASE {name}")).await.unwrap();
    at(&name)
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

/// Process ids recur within a run of all tests.
fn new_name() -> String {
    let unique = RandomState::new().build_hasher().finish();
    format!("twotower_{unique:016x}")
}

/// Runs statements, each of which may be about a database.
async fn on_server(sql: String) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(&server()).await?;
    let done = connection.execute(AssertSqlSafe(sql)).await;
    connection.close().await?;
    done.map(|_| ())
}

/// Runs SQL text of any number of statements as the owner.
pub(crate) async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let done = connection.execute(AssertSqlSafe(sql)).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.unwrap();
}
