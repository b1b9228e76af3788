use super::write::at;
use super::{
    FILES, FORMAT, LATER, MANIFEST, Manifest, ModelFilesError, OPTIMIZER, PREPROCESSING,
    USER_TOWER_WEIGHTS, WEIGHTS,
};
use crate::snapshot::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use twotower_core::feature::Preprocessing;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::tower::UserTower;

/// Loads a model from `dir`, which is `models/<version>` or a `models` folder, whose highest
/// version is then taken. Files that are not parsed are hashed in pieces, and at most one file is
/// in memory beside the model.
///
/// # Errors
/// [`ModelFilesError`] if a file is missing, a hash does not match, or the weights do not fit.
pub fn load(dir: &Path) -> Result<(Model, Manifest), ModelFilesError> {
    let folder = resolve(dir)?;
    let manifest = read_manifest(&folder)?;
    check_others(
        &folder,
        &manifest,
        &[PREPROCESSING, WEIGHTS, USER_TOWER_WEIGHTS],
    )?;
    let model = read_model(&folder, &manifest)?;
    if let Some(tower) = read_user_tower(&folder, &manifest)?
        && tower != model.user_tower
    {
        let path = folder.join(USER_TOWER_WEIGHTS);
        return Err(ModelFilesError::UserTower { path });
    }
    Ok((model, manifest))
}

/// Loads only the user tower from the folder of one model. Every file is checked as in [`load`],
/// but nothing of the catalogue's size enters memory if the tower has a file of its own.
///
/// The tower is not compared with the weights again: that was done when the version was registered,
/// and both hashes are in the manifest, whose checksum is in the registry.
///
/// # Errors
/// As [`load`].
pub fn load_user_tower(dir: &Path) -> Result<(UserTower, Manifest), ModelFilesError> {
    let folder = resolve(dir)?;
    let manifest = read_manifest(&folder)?;
    let Some(tower) = read_user_tower(&folder, &manifest)? else {
        return load(&folder).map(|(model, manifest)| (model.user_tower, manifest));
    };
    if !is_made_by(&tower, &manifest.hyperparameters) {
        let path = folder.join(USER_TOWER_WEIGHTS);
        return Err(ModelFilesError::UserTower { path });
    }
    check_others(&folder, &manifest, &[USER_TOWER_WEIGHTS])?;
    Ok((tower, manifest))
}

fn read_model(folder: &Path, manifest: &Manifest) -> Result<Model, ModelFilesError> {
    let json = read_file(folder, manifest, PREPROCESSING)?;
    let preprocessing: Preprocessing = serde_json::from_slice(&json).map_err(|error| {
        let path = folder.join(PREPROCESSING);
        corrupt(&path, &format!("is not as expected ({error})"))
    })?;
    drop(json);
    let weights = read_file(folder, manifest, WEIGHTS)?;
    let hyperparameters = manifest.hyperparameters.clone();
    Model::from_safetensors(hyperparameters, preprocessing, &weights).map_err(|cause| {
        let path = folder.join(WEIGHTS);
        ModelFilesError::Weights { path, cause }
    })
}

/// The separate file of the user tower; `None` in an older model without one.
fn read_user_tower(
    folder: &Path,
    manifest: &Manifest,
) -> Result<Option<UserTower>, ModelFilesError> {
    if !manifest.files.contains_key(USER_TOWER_WEIGHTS) {
        return Ok(None);
    }
    let bytes = read_file(folder, manifest, USER_TOWER_WEIGHTS)?;
    let tower = UserTower::from_safetensors(&bytes).map_err(|cause| {
        let path = folder.join(USER_TOWER_WEIGHTS);
        ModelFilesError::Weights { path, cause }
    })?;
    Ok(Some(tower))
}

/// Whether a model with these hyperparameters can have this tower, regardless of its weights.
fn is_made_by(tower: &UserTower, hyperparameters: &Hyperparameters) -> bool {
    tower.dim() == hyperparameters.embedding_dim
        && tower.head.hidden.bias.len() == hyperparameters.user_hidden
        && tower.decays == hyperparameters.decays
        && tower.skip_decay.to_bits() == hyperparameters.skip_decay.to_bits()
}

/// Checks every file in the folder of one model without loading it. Files are read in pieces.
///
/// # Errors
/// [`ModelFilesError`] if a file is missing, or a hash does not match.
pub(super) fn check(folder: &Path) -> Result<(), ModelFilesError> {
    let manifest = read_manifest(folder)?;
    check_others(folder, &manifest, &[])
}

/// Checks every file except `names`, including those that this program never parses: the folder is
/// good or bad as a whole.
fn check_others(folder: &Path, manifest: &Manifest, names: &[&str]) -> Result<(), ModelFilesError> {
    let mut others = manifest.listed().filter(|name| !names.contains(name));
    others.try_for_each(|name| Checked::open(folder, manifest, name)?.finish(|_| Ok(())))
}

/// The optimiser state of the model that [`load`] reads from `dir`, for fine-tuning.
///
/// # Errors
/// [`ModelFilesError`]
pub fn load_optimizer(dir: &Path) -> Result<Vec<u8>, ModelFilesError> {
    let folder = resolve(dir)?;
    let manifest = read_manifest(&folder)?;
    read_file(&folder, &manifest, OPTIMIZER)
}

/// Reads and checks only the manifest.
///
/// # Errors
/// [`ModelFilesError`]
pub fn manifest(dir: &Path) -> Result<Manifest, ModelFilesError> {
    read_manifest(&resolve(dir)?)
}

/// The folder of one model: `dir` itself if it holds a manifest, else its subfolder with the
/// highest version.
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

/// Whether `dir` is the folder of one model rather than a folder of models.
pub fn is_model(dir: &Path) -> bool {
    dir.join(MANIFEST).exists()
}

/// The versions after which the subfolders of `dir` are named, in no order.
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

/// The version after which a folder is named.
fn version_of(folder: &Path) -> Option<i64> {
    version_named(folder.file_name()?.to_str()?)
}

/// Parses a version in its canonical spelling: `7`, not `07` or `+7`.
pub(crate) fn version_named(name: &str) -> Option<i64> {
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

/// Checks the bytes of a manifest. `path` is for errors; `version` is the expected version, if
/// known.
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
    // The format comes first: the rest of another format is unknown.
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

/// Whether the manifest's bytes match the checksum inside it.
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

/// The bytes of a file, after they were checked against the manifest.
fn read_file(folder: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>, ModelFilesError> {
    let file = Checked::open(folder, manifest, name)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.len).unwrap_or(0));
    file.finish(|piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

/// An opened file of a model, of the length stated in the manifest.
pub(super) struct Checked<'a> {
    path: PathBuf,
    file: File,
    len: u64,
    sha256: Option<&'a String>,
}

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

impl<'a> Checked<'a> {
    /// A file of another length is refused before reading.
    pub(super) fn open(
        folder: &Path,
        manifest: &'a Manifest,
        name: &str,
    ) -> Result<Self, ModelFilesError> {
        let path = folder.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt(&path, "is missing"));
            }
            Err(error) => return Err(at(&path)(error)),
        };
        let len = file.metadata().map_err(at(&path))?.len();
        match manifest.sizes.get(name) {
            Some(&stated) if stated != len => {
                let reason = format!("has {len} bytes, and the manifest states {stated}");
                Err(corrupt(&path, &reason))
            }
            _ => Ok(Self {
                sha256: manifest.files.get(name),
                path,
                file,
                len,
            }),
        }
    }

    /// Passes the file to `take` in pieces. The data is good only if this returns `Ok`.
    pub(super) fn finish(
        self,
        mut take: impl FnMut(&[u8]) -> Result<(), ModelFilesError>,
    ) -> Result<(), ModelFilesError> {
        // Even if the file grows meanwhile.
        let mut file = self.file.take(self.len);
        let mut piece = vec![0; PIECE];
        let mut hash = Sha256::new();
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(at(&self.path)(error)),
            };
            hash.update(&piece[..read]);
            take(&piece[..read])?;
        }
        if self.sha256 == Some(&hex(&hash.finalize())) {
            Ok(())
        } else {
            let reason = "does not have the SHA-256 that the manifest states";
            Err(corrupt(&self.path, reason))
        }
    }
}

fn corrupt(path: &Path, reason: &str) -> ModelFilesError {
    ModelFilesError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
