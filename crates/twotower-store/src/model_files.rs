//! The folder `models/<version>/`: a crash leaves either the old state or the new one, and a model
//! is loaded only if every hash matches.

#[cfg(test)]
pub(crate) mod tests;

mod copy;

mod pickle;

mod read;

mod remove;

mod videos;

mod write;

pub use copy::copy;
pub use read::{is_model, load, load_optimizer, load_user_tower, manifest, resolve, versions};
pub use remove::{removable, remove, remove_rest};
pub use videos::without_videos;
pub use write::{Unfinished, check_size, save};

pub(crate) use read::{checksum_holds, parse_manifest, version_named};
pub(crate) use write::{at, sync_folder};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use thiserror::Error;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::split::SplitKind;
use twotower_core::tensors::TensorError;
use twotower_onnx::OnnxError;

/// Version of the layout that this program writes and reads.
const FORMAT: u32 = 2;

pub(crate) const MANIFEST: &str = "manifest.json";
/// Signature of the manifest, for a model that was published with one. It is not listed in the
/// manifest, since it is computed from it. [`load`] ignores it; `twotower keys verify` checks it.
pub(crate) const SIGNATURE: &str = "manifest.json.sig";
const USER_TOWER: &str = "user_tower.onnx";
const USER_TOWER_WEIGHTS: &str = "user_tower.safetensors";
const ITEM_TOWER: &str = "item_tower.onnx";
const PREPROCESSING: &str = "preprocessing.json";
const PICKLE: &str = "preprocessing.pkl";
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const CARD: &str = "model_card.md";

/// The files that a manifest lists: exactly these, except that [`LATER`] may be missing.
pub(crate) const FILES: [&str; 8] = [
    USER_TOWER,
    USER_TOWER_WEIGHTS,
    ITEM_TOWER,
    PREPROCESSING,
    PICKLE,
    WEIGHTS,
    OPTIMIZER,
    CARD,
];

/// Files that older models lack.
const LATER: &str = USER_TOWER_WEIGHTS;

/// Where the likes and skips came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The database.
    Database,
    /// A folder of shards, identified by its manifest's checksum.
    Shards,
}

/// What a model was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// Time of the latest interaction that was not in the future, microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// Time of the latest like in the training set, microseconds since 1970; later ones were held
    /// out.
    pub learned_until_us: Option<i64>,
    /// Time of the oldest like in the training set, microseconds since 1970; for a fine-tuned
    /// model, in that of its base.
    #[serde(default)]
    pub learned_since_us: Option<i64>,
    /// Base version of a fine-tuned model.
    pub fine_tuned_from: Option<i64>,
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
    /// How likes were split into training and validation sets.
    pub split: SplitKind,
    /// Number of the last erasure that the data reflects; for a fine-tuned model, that its base
    /// reflects.
    #[serde(default)]
    pub erasures_seen: Option<i64>,
    /// Where the data came from; `None` for models of older versions of twotower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Older interactions of the database were left out. `None` with a known `origin`: all were
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_days: Option<u32>,
}

/// The manifest, `manifest.json`, written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// SHA-256 (hex) of this file without these 64 digits, so that no byte of it can change
    /// unnoticed. Always the first field.
    pub checksum: String,
    /// Version of the layout: 2.
    pub format: u32,
    /// Model version.
    pub version: i64,
    /// Creation time, microseconds since 1970.
    pub created_at_us: i64,
    /// Version of twotower that wrote it.
    pub twotower: String,
    /// Hyperparameters.
    pub hyperparameters: Hyperparameters,
    /// Training data.
    pub trained_on: TrainedOn,
    /// Validation metrics of the chosen epoch, and other facts that the trainer records.
    pub metrics: Value,
    /// One record per epoch.
    pub training_log: Value,
    /// SHA-256 (hex) of each file, by name.
    pub files: BTreeMap<String, String>,
    /// Bytes of each file, by name; empty in older manifests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, u64>,
}

impl Manifest {
    /// This model's files, in the order of [`FILES`].
    pub(crate) fn listed(&self) -> impl Iterator<Item = &'static str> {
        FILES
            .into_iter()
            .filter(|&name| self.files.contains_key(name))
    }
}

/// What the caller of [`save`] knows of the model. Hashes are added there.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Model version.
    pub version: i64,
    /// Creation time, microseconds since 1970.
    pub created_at_us: i64,
    /// Training data.
    pub trained_on: TrainedOn,
    /// See [`Manifest::metrics`].
    pub metrics: Value,
    /// See [`Manifest::training_log`].
    pub training_log: Value,
    /// Model card, Markdown.
    pub card: String,
}

/// Why a model folder cannot be written or read.
#[derive(Debug, Error)]
pub enum ModelFilesError {
    /// There is no model.
    #[error("{0} holds no model: train one with `twotower train`")]
    Missing(PathBuf),
    /// The version exists already, and files of a version never change.
    #[error("{0} exists already: a version is written once, take the next number")]
    Exists(PathBuf),
    /// The file system failed.
    #[error("{path}: {cause}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// A file differs from what was written.
    #[error("{path} {reason}: copy the whole folder again, or train a new model")]
    Corrupt {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder holds other files besides the model's.
    #[error(
        "{path} also holds {name}, which is no file of a model, and was left alone: move that away and run again"
    )]
    Foreign {
        /// Folder.
        path: PathBuf,
        /// Name of the foreign file.
        name: String,
    },
    /// The model has the layout of another version of twotower.
    #[error(
        "{path} has format {format}, and this version of twotower reads format {FORMAT}: use the version that wrote it, or train a new model"
    )]
    Format {
        /// Path of the manifest.
        path: PathBuf,
        /// Its layout version.
        format: u64,
    },
    /// The folder's name and the manifest disagree on the version.
    #[error(
        "{path} is of version {version}, and its folder is named otherwise: files of two versions may be mixed, copy the folder again"
    )]
    Version {
        /// Path of the manifest.
        path: PathBuf,
        /// Version in the manifest.
        version: i64,
    },
    /// The weights do not fit the hyperparameters and the preprocessing.
    #[error("{path}: {cause}: train a new model")]
    Weights {
        /// File.
        path: PathBuf,
        /// What is wrong with them.
        cause: TensorError,
    },
    /// The separate file of the user tower differs from the model.
    #[error(
        "{path} holds another user tower than the model's weights: copy the whole folder again, or train a new model"
    )]
    UserTower {
        /// File.
        path: PathBuf,
    },
    /// The model cannot be written as ONNX.
    #[error("cannot write {file}: {cause}")]
    Onnx {
        /// File.
        file: &'static str,
        /// What is wrong.
        cause: OnnxError,
    },
    /// A model with this many rows cannot be written.
    #[error(
        "the model would have {rows} rows of {embedding_dim} numbers for videos, terms and n-grams, {gb:.2} GB, and {ITEM_TOWER} holds at most {most_gb:.2} GB: \
         lower embedding_dim or ngram_buckets, or raise min_users or min_term_videos, so that fewer videos and terms have a row of their own",
        gb = *bytes as f64 / 1e9,
        most_gb = *limit as f64 / 1e9
    )]
    TooLarge {
        /// Rows of both tables together.
        rows: usize,
        /// Numbers per row.
        embedding_dim: usize,
        /// Size that the file would have, bytes.
        bytes: usize,
        /// Largest size allowed, bytes.
        limit: usize,
    },
    /// The model cannot be written.
    #[error("cannot write {file}: {reason}")]
    Encode {
        /// File.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
}
