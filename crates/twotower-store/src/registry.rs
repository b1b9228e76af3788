use crate::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use std::fmt;
use std::str::FromStr;

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
    /// The checksum (SHA-256, hex) that its manifest states of itself, and through it of every file.
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

impl ModelState {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Candidate => "candidate",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ModelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ModelState {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        let states = [
            Self::Loading,
            Self::Candidate,
            Self::Active,
            Self::Retired,
            Self::Failed,
        ];
        states
            .into_iter()
            .find(|state| state.as_str() == name)
            .ok_or_else(|| StoreError::Row {
                query: "models",
                column: "state",
                reason: format!("is `{name}`, which this version of twotower does not know"),
            })
    }
}

/// What both engines select of a version, before its state is understood: version, state, dimension, then the times of
/// creation, activation and cut-off, then metrics.
pub(crate) type Record = (i64, String, i64, i64, Option<i64>, Option<i64>, Json<Value>);

impl TryFrom<Record> for ModelRecord {
    type Error = StoreError;

    fn try_from(record: Record) -> Result<Self, StoreError> {
        let (version, state, dim, created_at_us, activated_at_us, cut_off_us, Json(metrics)) =
            record;
        Ok(Self {
            version,
            state: state.parse()?,
            embedding_dim: dim as usize,
            created_at_us,
            activated_at_us,
            cut_off_us,
            metrics,
        })
    }
}
