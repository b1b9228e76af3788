//! Libraries in C that are preloaded into an unchanged program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library compiled from a source beside the tests, with the C compiler that also links Rust
/// programs.
pub(crate) struct Preload {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Preload {
    /// `source` is relative to `tests/it`.
    pub(crate) fn build(source: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it")
            .join(source);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preload.so");
        let built = Command::new("cc")
            .args([
                "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
            ])
            .args([&path, &source])
            .output()
            .expect("cc, which links Rust programs, is there");
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{errors}");
        // A database server runs as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }
}
