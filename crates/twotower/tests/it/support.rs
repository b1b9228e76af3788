//! What several tests need.

use std::path::{Path, PathBuf};

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
