use super::{
    FORMAT, ITEM_TOWER, MANIFEST, Manifest, ModelFilesError, ModelInfo, OPTIMIZER, PICKLE,
    PREPROCESSING, USER_TOWER, WEIGHTS, pickle,
};
use crate::snapshot::sha256;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use twotower_core::model::Model;

/// Writes `root/<version>/` and returns its path together with the manifest's SHA-256 (hex). `optimizer` is the state that
/// fine-tuning goes on from, as [`twotower_core::train::Run::optimizer_state`] gives it.
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
        bytes.map_err(|source| ModelFilesError::Onnx { file, source })
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

/// [`save`], for tests that need no ONNX.
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
    let json = serde_json::to_vec(&preprocessing).map_err(|error| encode(PREPROCESSING)(&error))?;
    let pickle = pickle::pickle(&preprocessing).map_err(|error| encode(PICKLE)(&error))?;
    let files: [(&str, &[u8]); 6] = [
        (USER_TOWER, &towers.user),
        (ITEM_TOWER, &towers.item),
        (PREPROCESSING, &json),
        (PICKLE, &pickle),
        (WEIGHTS, &weights),
        (OPTIMIZER, optimizer),
    ];
    let hashes = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), sha256(bytes)))
        .collect();
    let manifest = manifest_bytes(model, info, hashes).map_err(|error| encode(MANIFEST)(&error))?;

    fs::create_dir_all(root).map_err(at(root))?;
    let folder = Unfinished::create(root, info.version)?;
    for (name, bytes) in files {
        folder.write(name, bytes)?;
    }
    // Last, so that a folder with a manifest is a whole one.
    folder.write(MANIFEST, &manifest)?;
    folder.finish(&target)?;
    Ok((target, sha256(&manifest)))
}

fn manifest_bytes(
    model: &Model,
    info: &ModelInfo,
    files: BTreeMap<String, String>,
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
    };
    manifest.checksum = sha256(&serde_json::to_vec_pretty(&manifest)?);
    let mut bytes = serde_json::to_vec_pretty(&manifest)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A folder under a temporary name, removed unless finished.
struct Unfinished {
    root: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    fn create(root: &Path, version: i64) -> Result<Self, ModelFilesError> {
        let random = RandomState::new().hash_one(version);
        let path = root.join(format!(".{version}.tmp-{random:016x}"));
        fs::create_dir(&path).map_err(at(&path))?;
        Ok(Self {
            root: root.to_owned(),
            path,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ModelFilesError> {
        let path = self.path.join(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(at(&path))
    }

    fn finish(self, target: &Path) -> Result<(), ModelFilesError> {
        sync_folder(&self.path)?;
        fs::rename(&self.path, target).map_err(|error| {
            // Somebody else was faster: a folder that is not empty is never replaced.
            if target.exists() {
                ModelFilesError::Exists(target.to_owned())
            } else {
                at(target)(error)
            }
        })?;
        sync_folder(&self.root)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name; otherwise the error that led here is the one to tell.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes the names in a folder last: a file's own fsync does not.
pub(super) fn sync_folder(path: &Path) -> Result<(), ModelFilesError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at(path))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ModelFilesError + use<> {
    let path = path.to_owned();
    move |source| ModelFilesError::Io { path, source }
}
