//! What several tests need.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tests' PostgreSQL, with the database that it starts with: `scripts/test-postgres run` makes a new one each time, and
/// one test alone may use it.
pub(crate) fn fresh_postgres() -> String {
    std::env::var("TWOTOWER_TEST_POSTGRES")
        .expect("TWOTOWER_TEST_POSTGRES is not set: run `make test`, or `scripts/test-postgres run cargo test`")
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

    pub(crate) fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_twotower"))
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env("DATABASE_URL", &self.url)
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed and gives back its result.
    pub(crate) fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("--json {line}"));
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "twotower {line}: {log}");
        let command = line.split_whitespace().next().unwrap();
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.ends_with(&format!("{command} completed successfully")),
            "{last}"
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
