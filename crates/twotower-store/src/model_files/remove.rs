use super::write::{at, sync_folder};
use super::{FILES, MANIFEST, ModelFilesError, SIGNATURE, read};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files beside those that a manifest lists: the signature and the reports of `twotower evaluate`,
/// also under their temporary names.
const BESIDE: [&str; 10] = [
    SIGNATURE,
    ".manifest.json.sig.tmp",
    "report.html",
    ".report.html.tmp",
    "report-temporal.html",
    ".report-temporal.html.tmp",
    "report-llo.html",
    ".report-llo.html.tmp",
    "report-against.html",
    ".report-against.html.tmp",
];

/// Prefix of the name of a folder that is being removed. It is no number, so that the folder is not
/// taken for a model.
const PREFIX: &str = ".pruned-";

/// The folder `root/<version>/`, if it holds the model with this checksum and nothing else.
///
/// # Errors
/// [`ModelFilesError::Foreign`] if it holds other files too, or the file system fails.
pub fn removable(
    root: &Path,
    version: i64,
    checksum: &str,
) -> Result<Option<PathBuf>, ModelFilesError> {
    let folder = root.join(version.to_string());
    // Another model of the same number, a partial one, or a link elsewhere is not ours to remove.
    let is_folder = fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir());
    let is_it = || read::manifest(&folder).is_ok_and(|manifest| manifest.checksum == checksum);
    if !is_folder || !read::is_model(&folder) || !is_it() {
        return Ok(None);
    }
    for entry in fs::read_dir(&folder).map_err(at(&folder))? {
        let name = entry.map_err(at(&folder))?.file_name();
        if !known().any(|known| name == *known) {
            return Err(ModelFilesError::Foreign {
                path: folder,
                name: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(Some(folder))
}

/// Removes the folder that [`removable`] returns, if any. Interrupted at any moment, it leaves
/// either a complete model or none: the folder is renamed first, then loses its manifest.
/// [`remove_rest`] finishes an interrupted removal.
///
/// # Errors
/// As [`removable`].
pub fn remove(
    root: &Path,
    version: i64,
    checksum: &str,
) -> Result<Option<PathBuf>, ModelFilesError> {
    let Some(folder) = removable(root, version, checksum)? else {
        return Ok(None);
    };
    let doomed = root.join(format!("{PREFIX}{version}"));
    // The remains of an interrupted removal of the same number.
    if doomed.exists() {
        empty(&doomed)?;
    }
    fs::rename(&folder, &doomed).map_err(at(&folder))?;
    // A power failure must not remove the files and keep the name.
    sync_folder(root)?;
    empty(&doomed)?;
    Ok(Some(folder))
}

/// Finishes interrupted removals.
///
/// # Errors
/// If the file system fails.
pub fn remove_rest(root: &Path) -> Result<(), ModelFilesError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at(root))?,
    };
    for entry in entries {
        let entry = entry.map_err(at(root))?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if version.is_some_and(|version| version.parse::<i64>().is_ok()) {
            empty(&entry.path())?;
        }
    }
    Ok(())
}

/// Every file that a model's folder can hold. The manifest comes first: without it the folder is no
/// model.
fn known() -> impl Iterator<Item = &'static str> {
    [MANIFEST].into_iter().chain(FILES).chain(BESIDE)
}

fn empty(folder: &Path) -> Result<(), ModelFilesError> {
    for name in known() {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
    }
    fs::remove_dir(folder).map_err(at(folder))
}
