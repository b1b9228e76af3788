use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Life of a model version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Its vectors are being written.
    Loading,
    /// Complete, not served.
    Candidate,
    /// The one that readers see. At most one.
    Active,
    /// Was active once.
    Retired,
    /// Gave up while loading.
    Failed,
}

/// A version to be registered.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// From [`crate::Store::next_model_version`].
    pub version: i64,
    /// Dimension of its vectors.
    pub embedding_dim: usize,
    /// Time of the latest interaction it has seen, microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// Of the snapshot, hex.
    pub snapshot_sha256: String,
    /// As in its manifest.
    pub hyperparameters: Value,
    /// As in its manifest.
    pub metrics: Value,
    /// SHA-256 of its manifest file, hex.
    pub manifest_sha256: String,
}

/// A registered version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelRecord {
    /// Version.
    pub version: i64,
    /// State.
    pub state: ModelState,
    /// Dimension of its vectors.
    pub embedding_dim: usize,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// Microseconds since 1970.
    pub activated_at_us: Option<i64>,
    /// Microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// Metrics of its manifest.
    pub metrics: Value,
}
