//! The Python that `scripts/python-env` prepares.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let python = interpreter();
    Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_onnx.py"))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", python.display()))
}

/// Runs `tests/check_onnx.py` and returns what it printed.
///
/// # Panics
/// If a check fails.
pub(crate) fn check_onnx<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let output = run(arguments);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{printed}");
    printed
}

/// Runs `tests/check_onnx.py` on what it must refuse and returns its complaint.
///
/// # Panics
/// If no check fails.
pub(crate) fn complaint_of_check_onnx<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "nothing was refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
