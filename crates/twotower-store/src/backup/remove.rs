use super::{BackupError, MANIFEST, at};
use crate::model_files::sync_folder;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Prefix of the name of a backup that is being removed.
const PREFIX: &str = ".removed-";

/// Complete backups in `root`, oldest first: folders that are named by a time, such as
/// `20260131T033000Z`, and hold a manifest.
///
/// # Errors
/// If the file system fails.
pub fn complete_backups(root: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(root))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at(root))?;
        let named = entry.file_name().to_str().is_some_and(is_time);
        if named && entry.path().join(MANIFEST).is_file() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes a backup. It is renamed first, so that a partial one is never taken for a complete one.
/// Also removes the remains of interrupted removals.
///
/// # Errors
/// If the file system fails.
pub fn remove_backup(root: &Path, folder: &Path) -> Result<(), BackupError> {
    let name = folder.file_name().unwrap_or_default().display().to_string();
    let doomed = root.join(format!("{PREFIX}{name}"));
    fs::rename(folder, &doomed).map_err(at(folder))?;
    sync_folder(root)?;
    for entry in fs::read_dir(root).map_err(at(root))? {
        let path = entry.map_err(at(root))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let time = name.and_then(|name| name.strip_prefix(PREFIX));
        if time.is_some_and(is_time) {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// A name such as `20260131T033000Z`.
fn is_time(name: &str) -> bool {
    let digits =
        |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix('Z')
        .and_then(|name| name.split_once('T'))
        .is_some_and(|(date, time)| digits(date, 8) && digits(time, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_backups_are_found_and_removed() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "20260102T000000Z",
            "20260101T000000Z",
            "20260103T000000Z",
            "mine",
            ".removed-20250101T000000Z",
        ] {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            if name != "20260103T000000Z" {
                fs::write(folder.join(MANIFEST), "{}").unwrap();
            }
        }
        let names = || -> Vec<_> {
            let found = complete_backups(root.path()).unwrap();
            found
                .iter()
                .map(|path| path.file_name().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(), ["20260101T000000Z", "20260102T000000Z"]);
        remove_backup(root.path(), &root.path().join("20260101T000000Z")).unwrap();
        assert_eq!(names(), ["20260102T000000Z"]);
        assert!(root.path().join("mine").exists());
        assert!(!root.path().join(".removed-20250101T000000Z").exists());
        assert!(!root.path().join(".removed-20260101T000000Z").exists());
        assert!(
            complete_backups(&root.path().join("none"))
                .unwrap()
                .is_empty()
        );
    }
}
