use super::write::at;
use super::{MANIFEST, ModelFilesError, SIGNATURE, Unfinished, read};
use std::fs;
use std::io;
use std::path::Path;

/// Copies the folder `from/<version>/` to `to/<version>/`, every byte checked, if it holds the very model that has this checksum; returns
/// whether it does. A copy that is there already is checked, and stays.
///
/// # Errors
/// [`ModelFilesError::Exists`] if another model is there; if a file is damaged; if the file system refuses.
pub fn copy(from: &Path, to: &Path, version: i64, checksum: &str) -> Result<bool, ModelFilesError> {
    let (source, target) = (from.join(version.to_string()), to.join(version.to_string()));
    if !read::is_model(&source) {
        return Ok(false);
    }
    let manifest = read::manifest(&source)?;
    if manifest.checksum != checksum {
        return Ok(false);
    }
    if read::is_model(&target) && read::manifest(&target)?.checksum == checksum {
        return read::load(&target).map(|_| true);
    }
    if target.exists() {
        return Err(ModelFilesError::Exists(target));
    }
    fs::create_dir_all(to).map_err(at(to))?;
    let folder = Unfinished::create(to, version)?;
    for name in manifest.listed() {
        folder.write(name, &read::read_file(&source, &manifest, name)?)?;
    }
    let signature = source.join(SIGNATURE);
    match fs::read(&signature) {
        Ok(bytes) => folder.write(SIGNATURE, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(&signature)(error)),
    }
    let path = source.join(MANIFEST);
    folder.write(MANIFEST, &fs::read(&path).map_err(at(&path))?)?;
    folder.finish(&target)?;
    Ok(true)
}
