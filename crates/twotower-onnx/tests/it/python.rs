//! The Python that `scripts/python-env` prepares.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// # Panics
/// If there is no such Python: without it nothing has been checked.
fn interpreter() -> PathBuf {
    if let Some(path) = std::env::var_os("TWOTOWER_TEST_PYTHON") {
        return path.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("target/tools/python/bin/python"))
        .find(|path| path.exists())
        .expect("no target/tools/python: run scripts/python-env (`make test` does), or name a Python with numpy, onnx and onnxruntime in TWOTOWER_TEST_PYTHON")
}

/// Runs `tests/check_onnx.py` and returns what it printed.
///
/// # Panics
/// If a check fails.
pub(crate) fn check_onnx<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let python = interpreter();
    let output = Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_onnx.py"))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", python.display()));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{printed}");
    printed
}
