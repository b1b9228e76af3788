//! The order of calls that a power cut asks for. A killed process loses nothing that it has written;
//! a machine loses what was not synced, so files are synced before they get their final names, and
//! the folder of a name afterwards.

use super::faults::{Action, Watched, inject};
use super::scene::{Scene, on_sqlite};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What would be lost at some moment.
#[derive(Default)]
struct Unsynced {
    files: BTreeSet<PathBuf>,
    /// Folders with new names.
    folders: BTreeSet<PathBuf>,
}

impl Unsynced {
    /// A hidden name, or one right below a hidden folder, is only a temporary one: what bears it gets
    /// its final name later.
    fn created(&mut self, path: &Path) {
        let folder = path.parent().unwrap();
        if !is_hidden(path) && !is_hidden(folder) {
            self.folders.insert(folder.to_owned());
        }
    }

    /// Whatever was below a path has another name now, or none.
    fn gone(&mut self, path: &Path) {
        self.files.retain(|other| !other.starts_with(path));
        self.folders.retain(|other| !other.starts_with(path));
    }
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

/// Checks the calls of `line`, all of whose files are below `root`.
fn check(line: &str, root: &Path, calls: &[(String, PathBuf)]) {
    let mut unsynced = Unsynced::default();
    let mut names = 0;
    for (call, path) in calls {
        let is_root = path == root;
        match call.as_str() {
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                names += 1;
                let folder = path.parent().unwrap();
                let Unsynced { files, folders } = &unsynced;
                assert!(
                    files.is_empty(),
                    "{line}: {} before {files:?}",
                    path.display()
                );
                let others: Vec<_> = folders.iter().filter(|&other| other != folder).collect();
                assert!(
                    others.is_empty(),
                    "{line}: {} before {others:?}",
                    path.display()
                );
                unsynced.created(path);
            }
            "fsync" | "fdatasync" => {
                unsynced.files.remove(path);
                unsynced.folders.remove(path);
            }
            "unlink" | "unlinkat" | "rmdir" => unsynced.gone(path),
            "mkdir" | "mkdirat" | "open" | "open64" | "openat" | "openat64" if !is_root => {
                unsynced.created(path);
            }
            "write" | "writev" | "pwrite" | "pwrite64" | "copy_file_range" => {
                unsynced.files.insert(path.clone());
            }
            _ => {}
        }
    }
    assert!(names > 0, "{line}: {calls:?}");
    let Unsynced { files, folders } = unsynced;
    assert!(
        files.is_empty() && folders.is_empty(),
        "{line}: {files:?} {folders:?}"
    );
}

fn traced(scene: &Scene, line: &str, root: &Path) {
    let mut command = scene.command(line);
    let log = inject(&mut command, &Watched::below(root), Action::Trace, 0);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    check(line, root, &log.calls());
}

#[test]
fn files_are_synced_before_they_get_their_names_and_folders_after() {
    let scene = on_sqlite();
    let below = |name: &str| scene.folder.path().join(name);
    let version = scene.next_model();
    traced(
        &scene,
        "train --epochs 1 --batch-size 64 --embedding-dim 8",
        &scene.models(),
    );
    let publish = format!("publish --model-path models/{version} --to store --unsigned");
    traced(&scene, &publish, &below("store"));
    let fetch = "fetch --from store --allow-unsigned --output-dir fetched";
    traced(&scene, fetch, &below("fetched"));
    traced(&scene, "backup --to copies", &below("copies"));
    traced(&scene, "export --to exports/all", &below("exports"));
}
