//! The folder `models/<version>/`: written so that a crash leaves the old or the new, read only if every hash holds.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;

/// What a model was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// Time of the latest interaction, microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// SHA-256 of the snapshot, hex.
    pub snapshot_sha256: String,
    /// Likes in the snapshot.
    pub likes: u64,
    /// Skips in the snapshot.
    pub skips: u64,
    /// Users in the snapshot.
    pub users: u64,
    /// Videos in the snapshot.
    pub videos: u64,
    /// How likes were split: `temporal` or `llo`.
    pub split: String,
}

/// `manifest.json`, written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this file's layout; 1.
    pub format: u32,
    /// Version of the model.
    pub version: i64,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// Version of twotower that wrote it.
    pub twotower: String,
    /// Hyperparameters.
    pub hyperparameters: Hyperparameters,
    /// Data.
    pub trained_on: TrainedOn,
    /// Validation metrics of the chosen epoch, and what else the trainer wants known.
    pub metrics: Value,
    /// One record an epoch.
    pub training_log: Value,
    /// SHA-256 (hex) of each file by name.
    pub files: BTreeMap<String, String>,
}

/// What the caller knows of a model to be saved; hashes are added by [`save`].
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Version of the model.
    pub version: i64,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// Data.
    pub trained_on: TrainedOn,
    /// See [`Manifest::metrics`].
    pub metrics: Value,
    /// See [`Manifest::training_log`].
    pub training_log: Value,
}

/// Why a model folder cannot be written or read.
#[derive(Debug, Error)]
pub enum ModelFilesError {
    /// No model there.
    #[error("{0} holds no model: train one with `twotower train`")]
    Missing(PathBuf),
}

/// Writes `root/<version>/` and returns its path together with the manifest's SHA-256 (hex).
///
/// # Errors
/// [`ModelFilesError`]; nothing is left under the final name then.
pub fn save(
    _root: &Path,
    _model: &Model,
    _info: &ModelInfo,
) -> Result<(PathBuf, String), ModelFilesError> {
    unimplemented!()
}

/// Reads a model from `dir`, which is `models/<version>` or a `models` folder, whose highest version is taken then.
///
/// # Errors
/// [`ModelFilesError`] if a file is missing, a hash does not hold, or weights do not fit.
pub fn load(_dir: &Path) -> Result<(Model, Manifest), ModelFilesError> {
    unimplemented!()
}

/// Reads and checks the manifest alone.
///
/// # Errors
/// [`ModelFilesError`]
pub fn manifest(_dir: &Path) -> Result<Manifest, ModelFilesError> {
    unimplemented!()
}

/// The folder of one model: `dir` itself, or its highest version.
///
/// # Errors
/// [`ModelFilesError`]
pub fn resolve(_dir: &Path) -> Result<PathBuf, ModelFilesError> {
    unimplemented!()
}
