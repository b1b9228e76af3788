use super::write::at;
use super::{
    FILES, FORMAT, LATER, MANIFEST, Manifest, ModelFilesError, OPTIMIZER, PREPROCESSING,
    USER_TOWER_WEIGHTS, WEIGHTS,
};
use crate::snapshot::{hex, sha256};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use twotower_core::feature::Preprocessing;
use twotower_core::model::Model;
use twotower_core::tower::UserTower;

/// Reads a model from `dir`, which is `models/<version>` or a `models` folder, whose highest version is taken then.
///
/// # Errors
/// [`ModelFilesError`] if a file is missing, a hash does not hold, or weights do not fit.
pub fn load(dir: &Path) -> Result<(Model, Manifest), ModelFilesError> {
    let folder = resolve(dir)?;
    let manifest = read_manifest(&folder)?;
    // Every file is checked, also those that this program does not read: it is the folder that is good or bad.
    let files = manifest
        .listed()
        .map(|name| Ok((name, read_file(&folder, &manifest, name)?)))
        .collect::<Result<BTreeMap<_, _>, ModelFilesError>>()?;
    let preprocessing_path = folder.join(PREPROCESSING);
    let preprocessing: Preprocessing =
        serde_json::from_slice(&files[PREPROCESSING]).map_err(|error| {
            corrupt(
                &preprocessing_path,
                &format!("is not as expected ({error})"),
            )
        })?;
    let model = Model::from_safetensors(
        manifest.hyperparameters.clone(),
        preprocessing,
        &files[WEIGHTS],
    )
    .map_err(|source| ModelFilesError::Weights {
        path: folder.join(WEIGHTS),
        source,
    })?;
    if let Some(bytes) = files.get(USER_TOWER_WEIGHTS) {
        let path = folder.join(USER_TOWER_WEIGHTS);
        match UserTower::from_safetensors(bytes) {
            Ok(tower) if tower == model.user_tower => {}
            Ok(_) => return Err(ModelFilesError::UserTower { path }),
            Err(source) => return Err(ModelFilesError::Weights { path, source }),
        }
    }
    Ok((model, manifest))
}

/// The state of the optimisers of the model that [`load`] reads from `dir`, for fine-tuning.
///
/// # Errors
/// [`ModelFilesError`]
pub fn load_optimizer(dir: &Path) -> Result<Vec<u8>, ModelFilesError> {
    let folder = resolve(dir)?;
    let manifest = read_manifest(&folder)?;
    read_file(&folder, &manifest, OPTIMIZER)
}

/// Reads and checks the manifest alone.
///
/// # Errors
/// [`ModelFilesError`]
pub fn manifest(dir: &Path) -> Result<Manifest, ModelFilesError> {
    read_manifest(&resolve(dir)?)
}

/// The folder of one model: `dir` itself if it holds a manifest, else its subfolder with the highest number for a name.
///
/// # Errors
/// [`ModelFilesError::Missing`] if there is none.
pub fn resolve(dir: &Path) -> Result<PathBuf, ModelFilesError> {
    if is_model(dir) {
        return Ok(dir.to_owned());
    }
    let highest = versions(dir)?.into_iter().max();
    highest
        .map(|version| dir.join(version.to_string()))
        .ok_or_else(|| ModelFilesError::Missing(dir.to_owned()))
}

/// Whether `dir` is the folder of one model, and not one of models.
pub fn is_model(dir: &Path) -> bool {
    dir.join(MANIFEST).exists()
}

/// The versions that the subfolders of `dir` are named by, in no order.
///
/// # Errors
/// [`ModelFilesError::Missing`] if there is no such folder.
pub fn versions(dir: &Path) -> Result<Vec<i64>, ModelFilesError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelFilesError::Missing(dir.to_owned()));
        }
        Err(error) => return Err(at(dir)(error)),
    };
    let mut versions = Vec::new();
    for entry in entries {
        versions.extend(version_of(&entry.map_err(at(dir))?.path()));
    }
    Ok(versions)
}

/// The version that a folder's name says.
fn version_of(folder: &Path) -> Option<i64> {
    let name = folder.file_name()?.to_str()?;
    let version = name.parse::<i64>().ok()?;
    (version.to_string() == name && version >= 0).then_some(version)
}

fn read_manifest(folder: &Path) -> Result<Manifest, ModelFilesError> {
    let path = folder.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelFilesError::Missing(folder.to_owned()));
        }
        Err(error) => return Err(at(&path)(error)),
    };
    parse_manifest(&path, &bytes, version_of(folder))
}

/// Checks the bytes of a manifest. `path` names it in errors; `version` is the one it must be of, if that is known.
pub(crate) fn parse_manifest(
    path: &Path,
    bytes: &[u8],
    version: Option<i64>,
) -> Result<Manifest, ModelFilesError> {
    let refuse = |reason: &str| Err(corrupt(path, reason));
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return refuse(&format!("is no JSON ({error})")),
    };
    // The format comes first: of another one, nothing else is known.
    match value.get("format").and_then(Value::as_u64) {
        None => return refuse("states no format"),
        Some(format) if format != u64::from(FORMAT) => {
            return Err(ModelFilesError::Format {
                path: path.to_owned(),
                format,
            });
        }
        Some(_) => {}
    }
    if !checksum_holds(bytes) {
        return refuse("does not have the checksum that it states");
    }
    let manifest: Manifest = match serde_json::from_slice(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return refuse(&format!("is not as expected ({error})")),
    };
    if let Some(missing) = FILES
        .iter()
        .find(|&&name| name != LATER && !manifest.files.contains_key(name))
    {
        return refuse(&format!("does not list {missing}"));
    }
    if let Some(extra) = manifest
        .files
        .keys()
        .find(|&name| !FILES.contains(&&**name))
    {
        return refuse(&format!("lists `{extra}`, which belongs to no model"));
    }
    let sized = manifest.sizes.keys().eq(manifest.files.keys());
    if !manifest.sizes.is_empty() && !sized {
        return refuse("does not state the size of each file that it lists");
    }
    if let Err(error) = manifest.hyperparameters.validate() {
        return refuse(&format!("states what no model is made with ({error})"));
    }
    if version.is_some_and(|version| version != manifest.version) {
        return Err(ModelFilesError::Version {
            path: path.to_owned(),
            version: manifest.version,
        });
    }
    Ok(manifest)
}

/// Whether a manifest is, to the byte, the one whose checksum it states.
pub(crate) fn checksum_holds(bytes: &[u8]) -> bool {
    const PREFIX: &[u8] = b"{\n  \"checksum\": \"";
    const DIGITS: usize = 64;
    let parts = bytes
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_at_checked(DIGITS))
        .and_then(|(digits, rest)| Some((digits, rest.strip_suffix(b"\n")?)));
    parts.is_some_and(|(digits, rest)| {
        let hash = Sha256::new().chain_update(PREFIX).chain_update(rest);
        hex(&hash.finalize()).as_bytes() == digits
    })
}

pub(super) fn read_file(
    folder: &Path,
    manifest: &Manifest,
    name: &str,
) -> Result<Vec<u8>, ModelFilesError> {
    let path = folder.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(&path, "is missing"));
        }
        Err(error) => return Err(at(&path)(error)),
    };
    if manifest.files.get(name) != Some(&sha256(&bytes)) {
        return Err(corrupt(
            &path,
            "does not have the SHA-256 that the manifest states",
        ));
    }
    Ok(bytes)
}

fn corrupt(path: &Path, reason: &str) -> ModelFilesError {
    ModelFilesError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
