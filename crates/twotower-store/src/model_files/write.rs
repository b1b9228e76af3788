use super::{
    CARD, FORMAT, ITEM_TOWER, MANIFEST, Manifest, ModelFilesError, ModelInfo, OPTIMIZER, PICKLE,
    PREPROCESSING, USER_TOWER, USER_TOWER_WEIGHTS, WEIGHTS, pickle,
};
use crate::snapshot::sha256;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_onnx::OnnxError;

/// Whether [`save`] can write a model whose two tables have `rows` rows together. To be checked
/// before training.
///
/// # Errors
/// [`ModelFilesError::TooLarge`]
pub fn check_size(rows: usize, hyperparameters: &Hyperparameters) -> Result<(), ModelFilesError> {
    match twotower_onnx::check_item_tower(rows, hyperparameters) {
        Ok(()) => Ok(()),
        Err(OnnxError::TooLarge { bytes, limit }) => Err(ModelFilesError::TooLarge {
            rows,
            embedding_dim: hyperparameters.embedding_dim,
            bytes,
            limit,
        }),
        Err(cause) => Err(ModelFilesError::Onnx {
            file: ITEM_TOWER,
            cause,
        }),
    }
}

/// Writes `root/<version>/` and returns its path and the manifest's SHA-256 (hex). `optimizer` is
/// the state from which fine-tuning continues, see [`twotower_core::train::Run::optimizer_state`].
///
/// # Errors
/// [`ModelFilesError`]; nothing is left under the final name then.
pub fn save(
    root: &Path,
    model: &Model,
    optimizer: &[u8],
    info: &ModelInfo,
) -> Result<(PathBuf, String), ModelFilesError> {
    let onnx = |file, bytes: Result<Vec<u8>, _>| {
        bytes.map_err(|cause| ModelFilesError::Onnx { file, cause })
    };
    let version = info.version.to_string();
    let metadata = [("model_version", version.as_str())];
    let towers = Towers {
        user: onnx(USER_TOWER, twotower_onnx::user_tower(model, &metadata))?,
        item: onnx(ITEM_TOWER, twotower_onnx::item_tower(model, &metadata))?,
    };
    save_with(root, model, optimizer, info, &towers)
}

/// The towers as ONNX bytes.
pub(super) struct Towers {
    pub(super) user: Vec<u8>,
    pub(super) item: Vec<u8>,
}

/// [`save`] for tests that need no ONNX.
pub(super) fn save_with(
    root: &Path,
    model: &Model,
    optimizer: &[u8],
    info: &ModelInfo,
    towers: &Towers,
) -> Result<(PathBuf, String), ModelFilesError> {
    let target = root.join(info.version.to_string());
    if target.exists() {
        return Err(ModelFilesError::Exists(target));
    }
    let encode = |file| {
        move |error: &dyn std::error::Error| ModelFilesError::Encode {
            file,
            reason: error.to_string(),
        }
    };
    let preprocessing = serde_json::to_value(&model.preprocessing)
        .map_err(|error| encode(PREPROCESSING)(&error))?;
    let weights = model
        .to_safetensors()
        .map_err(|error| encode(WEIGHTS)(&error))?;
    let user_tower = model
        .user_tower
        .to_safetensors()
        .map_err(|error| encode(USER_TOWER_WEIGHTS)(&error))?;
    let json = serde_json::to_vec(&preprocessing).map_err(|error| encode(PREPROCESSING)(&error))?;
    let pickle = pickle::pickle(&preprocessing).map_err(|error| encode(PICKLE)(&error))?;
    let files: [(&str, &[u8]); 8] = [
        (USER_TOWER, &towers.user),
        (USER_TOWER_WEIGHTS, &user_tower),
        (ITEM_TOWER, &towers.item),
        (PREPROCESSING, &json),
        (PICKLE, &pickle),
        (WEIGHTS, &weights),
        (OPTIMIZER, optimizer),
        (CARD, info.card.as_bytes()),
    ];
    let hashes = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), sha256(bytes)))
        .collect();
    let sizes = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64))
        .collect();
    let manifest =
        manifest_bytes(model, info, hashes, sizes).map_err(|error| encode(MANIFEST)(&error))?;

    fs::create_dir_all(root).map_err(at(root))?;
    let folder = Unfinished::create(root, info.version)?;
    for (name, bytes) in files {
        folder.write(name, bytes)?;
    }
    // Last, so that a folder with a manifest is complete.
    folder.write(MANIFEST, &manifest)?;
    folder.finish(&target)?;
    Ok((target, sha256(&manifest)))
}

fn manifest_bytes(
    model: &Model,
    info: &ModelInfo,
    files: BTreeMap<String, String>,
    sizes: BTreeMap<String, u64>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut manifest = Manifest {
        checksum: String::new(),
        format: FORMAT,
        version: info.version,
        created_at_us: info.created_at_us,
        twotower: env!("CARGO_PKG_VERSION").to_owned(),
        hyperparameters: model.hyperparameters.clone(),
        trained_on: info.trained_on.clone(),
        metrics: info.metrics.clone(),
        training_log: info.training_log.clone(),
        files,
        sizes,
    };
    manifest.checksum = sha256(&serde_json::to_vec_pretty(&manifest)?);
    let mut bytes = serde_json::to_vec_pretty(&manifest)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A folder under a temporary name, removed unless finished. Its process keeps it locked, so that
/// others can tell it from the remains of a killed one.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    _lock: Option<File>,
}

/// Longer than any job may run.
const ABANDONED: Duration = Duration::from_hours(14 * 24);

/// Marks the names of such folders.
const TEMPORARY: &str = ".tmp-";

impl Unfinished {
    /// Creates the folder in `root`, which must be on the file system of the final name. `version`
    /// is part of the temporary name.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn create(root: &Path, version: i64) -> Result<Self, ModelFilesError> {
        clear_abandoned(root);
        loop {
            let random = RandomState::new().hash_one(version);
            let path = root.join(format!(".{version}{TEMPORARY}{random:016x}"));
            fs::create_dir(&path).map_err(at(&path))?;
            let folder = File::open(&path).map_err(at(&path));
            let lock = folder.map(|folder| (folder.try_lock(), folder));
            let lock = match lock {
                Ok((Ok(()), folder)) => Some(folder),
                // Some network file systems support no locks, or none on folders.
                Ok((Err(TryLockError::Error(_)), _)) => None,
                // Another process took it for abandoned before it was locked.
                Ok((Err(TryLockError::WouldBlock), _)) => continue,
                Err(_) if !path.exists() => continue,
                Err(error) => return Err(error),
            };
            if path.exists() {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// The folder under its temporary name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new file durably.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ModelFilesError> {
        let path = self.path.join(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(at(&path))
    }

    /// Renames the folder to its final name. Its files are durable already.
    ///
    /// # Errors
    /// [`ModelFilesError::Exists`] if a non-empty folder of that name exists; if the file system
    /// fails. Nothing of ours is left under the name then, unless undoing the rename fails as well.
    pub fn finish(self, target: &Path) -> Result<(), ModelFilesError> {
        sync_folder(&self.path)?;
        fs::rename(&self.path, target).map_err(|error| match error.kind() {
            // Another process was faster: a non-empty folder is never replaced.
            ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => {
                ModelFilesError::Exists(target.to_owned())
            }
            _ => at(target)(error),
        })?;
        let lasts = target.parent().map_or(Ok(()), sync_folder);
        if lasts.is_err() {
            // A caller that gets an error finds nothing under the name, and can simply repeat the
            // call.
            let _ = fs::rename(target, &self.path);
        }
        lasts
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` nothing has this name. Otherwise the error that led here is the one to
        // report.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the temporary folders of killed processes. Failures to remove are ignored.
fn clear_abandoned(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let temporary = name.to_str().is_some_and(|name| {
            let version = name
                .strip_prefix('.')
                .and_then(|name| name.split_once(TEMPORARY));
            version.is_some_and(|(version, _)| version.parse::<i64>().is_ok())
        });
        let path = entry.path();
        let Some(Ok(folder)) = temporary.then(|| File::open(&path)) else {
            continue;
        };
        let changed = folder.metadata().and_then(|folder| folder.modified());
        let unchanged = changed.ok().and_then(|changed| changed.elapsed().ok());
        if is_abandoned(&folder.try_lock(), unchanged.unwrap_or_default()) {
            let _ = fs::remove_dir_all(&path);
            drop(folder);
        }
    }
}

/// By its lock; where folders cannot be locked, as on NFS, by the time since something was last put
/// into it.
fn is_abandoned(lock: &Result<(), TryLockError>, unchanged: Duration) -> bool {
    match lock {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => unchanged > ABANDONED,
    }
}

/// Makes the names in a folder durable: a file's own fsync does not.
pub(crate) fn sync_folder(path: &Path) -> Result<(), ModelFilesError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at(path))
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> ModelFilesError + use<> {
    let path = path.to_owned();
    move |cause| ModelFilesError::Io { path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_locked_is_abandoned_after_a_while() {
        let unknown = Err(TryLockError::Error(ErrorKind::Unsupported.into()));
        let day = Duration::from_hours(24);
        assert!(is_abandoned(&Ok(()), Duration::ZERO));
        assert!(!is_abandoned(&Err(TryLockError::WouldBlock), 99 * day));
        assert!(!is_abandoned(&unknown, 14 * day));
        assert!(is_abandoned(&unknown, 15 * day));
    }

    #[test]
    fn only_a_folder_that_holds_something_is_said_to_be_there_already() {
        let root = tempfile::tempdir().unwrap();
        let finish = |name: &str| {
            let folder = Unfinished::create(root.path(), 1).unwrap();
            folder.write("file", b"content").unwrap();
            folder.finish(&root.path().join(name))
        };
        fs::create_dir(root.path().join("empty")).unwrap();
        finish("empty").unwrap();
        assert!(matches!(finish("empty"), Err(ModelFilesError::Exists(_))));
        fs::write(root.path().join("file"), "").unwrap();
        assert!(matches!(finish("file"), Err(ModelFilesError::Io { .. })));
        let left = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 2, "nothing stays under a temporary name");
    }
}
