//! What several tests need: a database of one's own, Python.

use sqlx::{Connection, Executor};
use std::path::{Path, PathBuf};

/// Creates an empty database on the tests' PostgreSQL and gives back its address.
pub(crate) async fn scratch_postgres() -> String {
    let server = std::env::var("TWOTOWER_TEST_POSTGRES").expect("TWOTOWER_TEST_POSTGRES is not set: run `make test`");
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (base, _) = server.rsplit_once('/').expect("the address names a database");
    format!("{base}/{name}")
}

/// The tests' Python, which has onnxruntime.
pub(crate) fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("TWOTOWER_TEST_PYTHON") {
        return python.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/tools/python/bin/python");
    assert!(python.exists(), "{} is missing: run `make test` or scripts/python-env", python.display());
    python
}
