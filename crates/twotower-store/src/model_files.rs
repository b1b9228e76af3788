//! The folder `models/<version>/`: written so that a crash leaves the old or the new, read only if every hash holds.

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

pub(crate) use read::{checksum_holds, parse_manifest};
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
/// The manifest's signature, where the model was published with one. It stands beside the files that a manifest lists, since it
/// is made of the manifest; [`load`] asks nothing of it, `twotower keys verify` does.
pub(crate) const SIGNATURE: &str = "manifest.json.sig";
const USER_TOWER: &str = "user_tower.onnx";
const USER_TOWER_WEIGHTS: &str = "user_tower.safetensors";
const ITEM_TOWER: &str = "item_tower.onnx";
const PREPROCESSING: &str = "preprocessing.json";
const PICKLE: &str = "preprocessing.pkl";
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const CARD: &str = "model_card.md";

/// The files that a manifest lists, no more and, but for [`LATER`], no fewer.
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

/// What models of before it was written lack.
const LATER: &str = USER_TOWER_WEIGHTS;

/// Where likes and skips were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The database.
    Database,
    /// A folder of shards, whose sum is that of its manifest.
    Shards,
}

/// What a model was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// Time of the latest interaction that had come by then, microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// Time of the latest like that was learned, microseconds since 1970: later ones were held out.
    pub learned_until_us: Option<i64>,
    /// Time of the oldest like that was learned, microseconds since 1970; of a fine-tuned model, by its base.
    #[serde(default)]
    pub learned_since_us: Option<i64>,
    /// Version that the model was fine-tuned from.
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
    /// How likes were split.
    pub split: SplitKind,
    /// Number of the last erasure of a user that the data knew of; of a fine-tuned model, that its base knew of.
    #[serde(default)]
    pub erasures_seen: Option<i64>,
    /// Where the data came from; not known of models of before it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Interactions of a database that were older were left out; all count where `origin` is known and this is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_days: Option<u32>,
}

/// `manifest.json`, written last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// SHA-256 (hex) of this file itself with these 64 digits taken out, so that no byte of it can change unnoticed. Always
    /// the first field.
    pub checksum: String,
    /// Of this file's layout; 2.
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
    /// Bytes of each file by name; empty in a manifest of before this was stated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, u64>,
}

impl Manifest {
    /// The files of this model, in the order of [`FILES`].
    pub(crate) fn listed(&self) -> impl Iterator<Item = &'static str> {
        FILES
            .into_iter()
            .filter(|&name| self.files.contains_key(name))
    }
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
    /// The model card, Markdown.
    pub card: String,
}

/// Why a model folder cannot be written or read.
#[derive(Debug, Error)]
pub enum ModelFilesError {
    /// No model there.
    #[error("{0} holds no model: train one with `twotower train`")]
    Missing(PathBuf),
    /// The version is there already, and files of a version never change.
    #[error("{0} exists already: a version is written once, take the next number")]
    Exists(PathBuf),
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is not what its maker wrote.
    #[error("{path} {reason}: copy the whole folder again, or train a new model")]
    Corrupt {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder that holds more than a model.
    #[error(
        "{path} also holds {name}, which is no file of a model, and was left alone: move that away and run again"
    )]
    Foreign {
        /// Folder.
        path: PathBuf,
        /// What does not belong there.
        name: String,
    },
    /// Written by another version of twotower.
    #[error(
        "{path} has format {format}, and this version of twotower reads format {FORMAT}: use the version that wrote it, or train a new model"
    )]
    Format {
        /// Manifest.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The folder's name and the manifest disagree.
    #[error(
        "{path} is of version {version}, and its folder is named otherwise: files of two versions may be mixed, copy the folder again"
    )]
    Version {
        /// Manifest.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// The weights are not those of a model with these hyperparameters and this preprocessing.
    #[error("{path}: {cause}: train a new model")]
    Weights {
        /// File.
        path: PathBuf,
        /// What is wrong with them.
        cause: TensorError,
    },
    /// The user tower in a file of its own is not that of the model.
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
    /// A model with so many rows cannot be written.
    #[error(
        "the model would have {rows} rows of {embedding_dim} numbers for videos, terms and n-grams, {gb:.2} GB, and {ITEM_TOWER} holds at most {most_gb:.2} GB: \
         lower embedding_dim or ngram_buckets, or raise min_users or min_term_videos, so that fewer videos and terms have a row of their own",
        gb = *bytes as f64 / 1e9,
        most_gb = *limit as f64 / 1e9
    )]
    TooLarge {
        /// Of both tables.
        rows: usize,
        /// Numbers of a row.
        embedding_dim: usize,
        /// Size that the file would have.
        bytes: usize,
        /// Largest size allowed.
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
