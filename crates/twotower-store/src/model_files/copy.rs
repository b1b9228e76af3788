use super::read::{self, Checked};
use super::write::at;
use super::{MANIFEST, Manifest, ModelFilesError, SIGNATURE, Unfinished};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Copies the folder `from/<version>/` to `to/<version>/` if it holds the model with this checksum,
/// and checks every byte. Returns whether it does. An existing copy is checked and kept. Files are
/// read in pieces.
///
/// # Errors
/// [`ModelFilesError::Exists`] if another model is there; if a file is damaged; if the file system
/// fails.
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
        return read::check(&target).map(|()| true);
    }
    if target.exists() {
        return Err(ModelFilesError::Exists(target));
    }
    fs::create_dir_all(to).map_err(at(to))?;
    let folder = Unfinished::create(to, version)?;
    for name in manifest.listed() {
        copy_file(&source, &manifest, name, folder.path())?;
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

/// Hashes a file while it is copied. The copy is good only if this returns `Ok`.
fn copy_file(
    source: &Path,
    manifest: &Manifest,
    name: &str,
    target: &Path,
) -> Result<(), ModelFilesError> {
    let path = target.join(name);
    let file = Checked::open(source, manifest, name)?;
    let mut copy = File::create_new(&path).map_err(at(&path))?;
    file.finish(|piece| copy.write_all(piece).map_err(at(&path)))?;
    copy.sync_all().map_err(at(&path))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{exchange, save};
    use super::super::{OPTIMIZER, WEIGHTS};
    use super::*;

    /// Several pieces and a bit, with weights that load as no model: only hashes matter here.
    #[test]
    fn a_copy_has_every_byte_and_is_checked_by_hash_alone() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let (source, _) = save(&from, 3);
        let long: Vec<u8> = (0..5_000_011_u32).map(|n| (n % 251) as u8).collect();
        exchange(&source, OPTIMIZER, &long);
        exchange(&source, WEIGHTS, b"none");
        fs::write(source.join(SIGNATURE), "signed").unwrap();
        let checksum = read::manifest(&source).unwrap().checksum;
        let copied = || copy(&from, &to, 3, &checksum);

        // Damage at the end of a file is found after copying, and nothing of the copy stays.
        let mut bad = long.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(source.join(OPTIMIZER), &bad).unwrap();
        let error = copied().unwrap_err().to_string();
        assert!(
            error.contains(OPTIMIZER) && error.contains("SHA-256"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
        fs::write(source.join(OPTIMIZER), &long).unwrap();

        assert!(copied().unwrap());
        let names = || {
            let entries = fs::read_dir(&source).unwrap();
            entries.map(|entry| entry.unwrap().file_name())
        };
        for name in names() {
            let of = |folder: &Path| fs::read(folder.join(&name)).unwrap();
            assert!(of(&source) == of(&to.join("3")), "{}", name.display());
        }
        assert_eq!(fs::read_dir(to.join("3")).unwrap().count(), names().count());
        assert!(copied().unwrap(), "it is there already");
        fs::write(to.join("3").join(OPTIMIZER), &bad).unwrap();
        let error = copied().unwrap_err().to_string();
        assert!(error.contains("/to/3/optimizer.safetensors"), "{error}");
        assert!(!copy(&from, &to, 3, "another").unwrap());
    }
}
