use crate::{Erased, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use std::fmt;
use std::str::FromStr;

/// State of a model version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// Its vectors are being written.
    Loading,
    /// Complete but not active.
    Candidate,
    /// The version that readers see. At most one.
    Active,
    /// Was active before.
    Retired,
    /// Loading failed.
    Failed,
}

/// A version to register.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// Version number, from [`crate::Store::next_model_version`].
    pub version: i64,
    /// Dimension of its vectors.
    pub embedding_dim: usize,
    /// Time of the latest interaction in its data, microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// SHA-256 of its snapshot, hex.
    pub snapshot_sha256: String,
    /// As in its manifest.
    pub hyperparameters: Value,
    /// As in its manifest.
    pub metrics: Value,
    /// Checksum (SHA-256, hex) of its manifest, which covers every file.
    pub manifest_sha256: String,
    /// See [`crate::Snapshot::erasures_seen`]; `None` for models that do not record it.
    pub erasures_seen: Option<i64>,
}

/// A registered version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelRecord {
    /// Version number.
    pub version: i64,
    /// State.
    pub state: ModelState,
    /// Dimension of its vectors.
    pub embedding_dim: usize,
    /// Creation time, microseconds since 1970.
    pub created_at_us: i64,
    /// Time of the latest activation, microseconds since 1970.
    pub activated_at_us: Option<i64>,
    /// Time of the latest interaction in its data, microseconds since 1970.
    pub cut_off_us: Option<i64>,
    /// Metrics of its manifest.
    pub metrics: Value,
    /// When its vectors were removed, microseconds since 1970.
    pub pruned_at_us: Option<i64>,
    /// See [`NewModel::erasures_seen`].
    pub erasures_seen: Option<i64>,
    /// See [`NewModel::manifest_sha256`].
    pub manifest_sha256: String,
}

impl ModelRecord {
    /// Refuses a model folder with another checksum: vectors of two models would be mixed under one
    /// number.
    ///
    /// # Errors
    /// [`StoreError::OtherModel`] unless `manifest_sha256` is the registered one.
    pub fn is_model(&self, manifest_sha256: &str) -> Result<(), StoreError> {
        same_model(self.version, &self.manifest_sha256, manifest_sha256)
    }

    /// Whether its data may include a user who was erased at that time.
    pub fn is_before(&self, erased: &Erased) -> bool {
        match self.erasures_seen {
            Some(seen) => erased.number > seen,
            None => self.created_at_us < erased.erased_at_us,
        }
    }
}

/// Everything registered about a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelDetails {
    /// The short form, as in lists.
    #[serde(flatten)]
    pub record: ModelRecord,
    /// When it was retired, microseconds since 1970.
    pub retired_at_us: Option<i64>,
    /// SHA-256 of its snapshot, hex.
    pub snapshot_sha256: String,
    /// Hyperparameters of its manifest.
    pub hyperparameters: Value,
    /// Reason of the activation, or of the failure.
    pub reason: Option<String>,
    /// Verdict of the quality gate; see [`crate::Store::record_verdict`].
    pub verdict: Option<Value>,
    /// Activations of this version, oldest first.
    pub activations: Vec<ActivationRecord>,
}

/// What caused an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationKind {
    /// Its vectors have just been loaded and checked; it may be [`ModelState::Loading`].
    Loaded,
    /// An operator chose it.
    Promotion,
    /// Back to the version that was active before.
    Rollback,
}

/// An activation to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Version number.
    pub version: i64,
    /// Cause.
    pub kind: ActivationKind,
    /// Operator or process.
    pub by: String,
    /// Reason.
    pub reason: String,
    /// Whether it overrides a failed check.
    pub forced: bool,
}

/// An activation that was performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActivationRecord {
    /// Version number.
    pub version: i64,
    /// Microseconds since 1970. Do not use it for ordering.
    pub at_us: i64,
    /// Cause.
    pub kind: ActivationKind,
    /// Operator or process.
    pub by: String,
    /// Reason.
    pub reason: String,
    /// The version that was active before.
    pub previous_version: Option<i64>,
    /// Whether it overrode a failed check.
    pub forced: bool,
}

/// The rollback target: the version that was active before the present one, in a history that is
/// ordered from the oldest.
///
/// A rollback undoes activations, so the next rollback does not lead back to the version that was
/// rolled back.
pub fn version_before(history: &[ActivationRecord]) -> Option<i64> {
    let mut standing: Vec<i64> = Vec::new();
    for activation in history {
        let version = activation.version;
        let earlier = standing.iter().rposition(|&other| other == version);
        match earlier {
            Some(earlier) if activation.kind == ActivationKind::Rollback => {
                standing.truncate(earlier + 1);
            }
            _ => standing.push(version),
        }
    }
    standing.iter().rev().nth(1).copied()
}

impl ModelState {
    /// Spelling in the database.
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

impl ActivationKind {
    /// Spelling in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Promotion => "promotion",
            Self::Rollback => "rollback",
        }
    }

    /// Whether it may activate a version in this state.
    pub(crate) fn accepts(self, state: ModelState) -> bool {
        match state {
            ModelState::Candidate | ModelState::Retired => true,
            ModelState::Loading => self == Self::Loaded,
            ModelState::Active | ModelState::Failed => false,
        }
    }
}

impl FromStr for ActivationKind {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        let kinds = [Self::Loaded, Self::Promotion, Self::Rollback];
        kinds
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| StoreError::Row {
                query: "model_activations",
                column: "kind",
                reason: format!("is `{name}`, which this version of twotower does not know"),
            })
    }
}

/// See [`ModelRecord::is_model`].
pub(crate) fn same_model(version: i64, registered: &str, given: &str) -> Result<(), StoreError> {
    if registered == given {
        return Ok(());
    }
    Err(StoreError::OtherModel {
        version,
        registered: registered.to_owned(),
        given: given.to_owned(),
    })
}

/// Columns of an activation, the same in both engines: version, time, kind, by, reason, previous
/// version, forced.
pub(crate) type ActivationRow = (i64, i64, String, String, String, Option<i64>, bool);

impl TryFrom<ActivationRow> for ActivationRecord {
    type Error = StoreError;

    fn try_from(row: ActivationRow) -> Result<Self, StoreError> {
        let (version, at_us, kind, by, reason, previous_version, forced) = row;
        Ok(Self {
            version,
            at_us,
            kind: kind.parse()?,
            by,
            reason,
            previous_version,
            forced,
        })
    }
}

/// Columns of a version besides those of [`Record`], the same in both engines: time of retirement,
/// hash of the snapshot, hyperparameters, reason, verdict.
pub(crate) type Details = (
    Option<i64>,
    String,
    Json<Value>,
    Option<String>,
    Option<Json<Value>>,
);

impl ModelDetails {
    /// Without activations.
    pub(crate) fn new(record: Record, details: Details) -> Result<Self, StoreError> {
        let (retired_at_us, snapshot_sha256, Json(hyperparameters), reason, verdict) = details;
        Ok(Self {
            record: record.try_into()?,
            retired_at_us,
            snapshot_sha256,
            hyperparameters,
            reason,
            verdict: verdict.map(|Json(verdict)| verdict),
            activations: Vec::new(),
        })
    }
}

/// Columns of a version, the same in both engines, before its state is parsed: version, state,
/// dimension, then the times of creation, activation and cut-off, then metrics, time of pruning,
/// the last erasure it knows of, and the checksum of its manifest.
pub(crate) type Record = (
    i64,
    String,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Json<Value>,
    Option<i64>,
    Option<i64>,
    String,
);

impl TryFrom<Record> for ModelRecord {
    type Error = StoreError;

    fn try_from(record: Record) -> Result<Self, StoreError> {
        let (
            version,
            state,
            dim,
            created_at_us,
            activated_at_us,
            cut_off_us,
            Json(metrics),
            pruned_at_us,
            erasures_seen,
            manifest_sha256,
        ) = record;
        Ok(Self {
            version,
            state: state.parse()?,
            embedding_dim: dim as usize,
            created_at_us,
            activated_at_us,
            cut_off_us,
            metrics,
            pruned_at_us,
            erasures_seen,
            manifest_sha256,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ActivationKind::{Loaded, Promotion, Rollback};

    fn before(history: &[(i64, ActivationKind)]) -> Option<i64> {
        let record = |&(version, kind): &(i64, ActivationKind)| ActivationRecord {
            version,
            at_us: 0,
            kind,
            by: String::new(),
            reason: String::new(),
            previous_version: None,
            forced: false,
        };
        version_before(&history.iter().map(record).collect::<Vec<_>>())
    }

    #[test]
    fn a_rollback_goes_back_in_history_not_in_numbers() {
        assert_eq!(before(&[]), None);
        assert_eq!(before(&[(5, Loaded)]), None);
        let mut history = vec![(5, Loaded), (7, Loaded), (6, Promotion)];
        assert_eq!(before(&history), Some(7));
        history.push((7, Rollback));
        assert_eq!(
            before(&history),
            Some(5),
            "never to what was rolled back from"
        );
        history.push((5, Rollback));
        assert_eq!(before(&history), None);
        // A version that was chosen again after a rollback is a target again.
        history.extend([(7, Promotion), (5, Promotion)]);
        assert_eq!(before(&history), Some(7));
        // `--to` may lead to a version that was never active.
        history.push((3, Rollback));
        assert_eq!(before(&history), Some(5));
    }
}
