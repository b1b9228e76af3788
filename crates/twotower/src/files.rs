//! Atomic replacement of files, so that a kill at any instant leaves either the old file or the new
//! one; and folders that one process works in at a time.

use anyhow::{Context, bail};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file `path` by `bytes`, and makes its folder if there is none.
///
/// For a file that only one process writes at a time. The temporary file beside it has a fixed
/// name, `.<name>.tmp`, so that the next writer overwrites one that a killed process left: it may
/// be as large as a model.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_through(path, ".tmp", bytes)
}

/// As [`write_whole`], for a file that several processes may write at once: the last one to finish
/// wins.
///
/// Each writes to a temporary file of its own. Nothing removes the one that a killed process
/// leaves, so use this for small files.
pub(crate) fn write_among_others(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Not the process id: containers that share the folder may use the same ids.
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    write_through(path, &format!(".{random:016x}.tmp"), bytes)
}

/// Writes to a file beside `path`, named `.<name><end>`, and renames it.
fn write_through(path: &Path, end: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(end);
    let temporary = folder.join(name);
    let replaced = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = replaced {
        // A failure to clean up would hide the first error.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The content of a file; `None` if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file if it exists.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Keeps other processes out of `folder`, which is created if missing, until the returned file is
/// dropped or the process ends, however it ends. `work` names the activity in the error.
///
/// # Errors
/// If another process holds the folder.
pub(crate) fn lock_folder(folder: &Path, work: &str) -> anyhow::Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another {work} is at work in {}: wait for it, or name another folder",
            folder.display()
        ),
        // Some network file systems do not support locks; on those, other processes are not kept
        // out.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_works_in_a_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("models");
        let lock = lock_folder(&folder, "training").unwrap();
        let refused = lock_folder(&folder, "training").unwrap_err().to_string();
        assert!(
            refused.starts_with("another training is at work in"),
            "{refused}"
        );
        drop(lock);
        lock_folder(&folder, "training").unwrap();
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/state.json");
        assert_eq!(read_if_there(&path).unwrap(), None);
        for text in ["one", "another"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(read_if_there(&path).unwrap().unwrap(), text.as_bytes());
        }
        assert_eq!(
            fs::read_dir(folder.path().join("new")).unwrap().count(),
            1,
            "no temporary file stays"
        );
        remove_if_there(&path).unwrap();
        remove_if_there(&path).unwrap();
        assert_eq!(read_if_there(&path).unwrap(), None);
    }

    #[test]
    fn several_write_one_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        write_among_others(path, &[writer; 1000]).unwrap();
                    }
                });
            }
        });
        let left = fs::read(&path).unwrap();
        assert_eq!(left.len(), 1000);
        assert!(left.iter().all(|byte| *byte == left[0]), "of one writer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A rename cannot replace a folder that is not empty.
        let path = folder.path().join("state.json");
        fs::create_dir_all(path.join("full")).unwrap();
        write_whole(&path, b"x").unwrap_err();
        write_among_others(&path, b"x").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
