//! Compares a backup with a database and plans the restoration.

use super::{
    ACTIVATIONS, Backup, BackupError, EXPERIMENTS, MODELS, RestoreOptions, TOMBSTONE_SALT,
};
use crate::{Activation, ActivationKind, InteractionKind, Source};
use serde::Deserialize;
use std::collections::HashMap;

/// Identifies a version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ModelKey {
    pub(crate) version: i64,
    pub(crate) manifest_sha256: String,
}

/// Identifies an activation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ActivationKey {
    pub(crate) version: i64,
    pub(crate) activated_at: i64,
}

#[derive(Debug, Deserialize)]
struct ExperimentKey {
    id: i64,
    started_at: i64,
    ended_at: Option<i64>,
}

/// A row of [`TOMBSTONES`](super::TOMBSTONES).
#[derive(Debug, Deserialize)]
pub(crate) struct Tombstone {
    /// Hexadecimal digits.
    pub(crate) user_hash: String,
    pub(crate) number: i64,
}

#[derive(Deserialize)]
struct Salt {
    salt: String,
}

/// State of the database before the restoration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) models: Vec<ModelKey>,
    /// Oldest first.
    pub(crate) activations: Vec<ActivationKey>,
    /// (id, start, whether it has ended)
    pub(crate) experiments: Vec<(i64, i64, bool)>,
    /// Hexadecimal digits.
    pub(crate) salt: String,
    /// Number of tombstones.
    pub(crate) erased: u64,
    /// Number of vectors of the backup's versions that were written after the backup.
    pub(crate) newer_vectors: u64,
}

impl Target {
    /// From (version, manifest checksum), (version, activation time), and (salt, tombstones, newer
    /// vectors).
    pub(crate) fn new(
        models: Vec<(i64, String)>,
        activations: Vec<(i64, i64)>,
        experiments: Vec<(i64, i64, bool)>,
        (salt, erased, newer_vectors): (String, i64, i64),
    ) -> Self {
        let model = |(version, manifest_sha256)| ModelKey {
            version,
            manifest_sha256,
        };
        let activation = |(version, activated_at)| ActivationKey {
            version,
            activated_at,
        };
        Self {
            models: models.into_iter().map(model).collect(),
            activations: activations.into_iter().map(activation).collect(),
            experiments,
            salt,
            erased: erased as u64,
            newer_vectors: newer_vectors as u64,
        }
    }
}

/// What a restoration writes besides the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestorePlan {
    /// Number of activations that the database shares with the backup, counted from the first.
    pub(crate) known_activations: usize,
    /// Whether the remaining activations are restored. False where the database has a history of
    /// its own.
    pub(crate) history: bool,
    /// Activation of the backup's version to add in a database with a history of its own.
    pub(crate) switch: Option<Activation>,
    /// Salt of the tombstones, hexadecimal digits.
    pub(crate) salt: String,
    /// Experiment that was running when the backup was made.
    pub(crate) running: Option<i64>,
    /// Newer data in the database, in words.
    pub(crate) newer: Vec<String>,
    /// Active version after the restoration.
    pub(crate) active_version: Option<i64>,
    /// Kinds of interactions that the source reads from our own tables.
    pub(crate) own_interactions: Vec<InteractionKind>,
}

/// Plans the restoration, or refuses it.
pub(crate) fn compare(
    backup: &Backup,
    target: &Target,
    options: &RestoreOptions,
) -> Result<RestorePlan, BackupError> {
    let models: Vec<ModelKey> = backup.rows(MODELS.name)?;
    let known: HashMap<i64, &str> = models
        .iter()
        .map(|model| (model.version, &*model.manifest_sha256))
        .collect();
    for model in &target.models {
        let checksum = known.get(&model.version);
        if checksum.is_some_and(|checksum| *checksum != model.manifest_sha256) {
            return Err(BackupError::OtherModel {
                version: model.version,
            });
        }
    }
    let mut salts: Vec<Salt> = backup.rows(TOMBSTONE_SALT.name)?;
    let salt = salts
        .pop()
        .map_or_else(|| target.salt.clone(), |row| row.salt);
    if salt != target.salt && target.erased > 0 {
        return Err(BackupError::OtherSalt {
            erased: target.erased,
        });
    }
    let activations: Vec<ActivationKey> = backup.rows(ACTIVATIONS.name)?;
    let experiments: Vec<ExperimentKey> = backup.rows(EXPERIMENTS.name)?;
    let history = activations.starts_with(&target.activations);

    let mut newer = Vec::new();
    let unknown: Vec<String> = target
        .models
        .iter()
        .filter(|model| !known.contains_key(&model.version))
        .map(|model| model.version.to_string())
        .collect();
    if !unknown.is_empty() {
        newer.push(format!(
            "versions {} are not in the backup",
            unknown.join(", ")
        ));
    }
    if !history {
        newer.push("readers were switched since".to_owned());
    }
    for &(id, started_at, ended) in &target.experiments {
        let same = |one: &&ExperimentKey| one.id == id && one.started_at == started_at;
        match experiments.iter().find(same) {
            None => newer.push(format!("experiment {id} is not in the backup")),
            Some(one) if ended && one.ended_at.is_none() => {
                newer.push(format!("experiment {id} has ended since"));
            }
            Some(_) => {}
        }
    }
    if target.newer_vectors > 0 {
        newer.push(format!(
            "{} vectors were written since",
            target.newer_vectors
        ));
    }
    if !newer.is_empty() && !options.replace {
        return Err(BackupError::Newer { newer });
    }
    let active = backup.manifest().active_version;
    Ok(RestorePlan {
        known_activations: if history { target.activations.len() } else { 0 },
        history,
        switch: active.filter(|_| !history).map(|version| Activation {
            version,
            kind: ActivationKind::Promotion,
            by: options.by.clone(),
            reason: options.reason.clone(),
            forced: false,
        }),
        salt,
        running: experiments
            .iter()
            .find(|one| one.ended_at.is_none())
            .map(|one| one.id),
        newer,
        // A backup without an active version leaves the database's own active.
        active_version: active.or_else(|| target.activations.last().map(|last| last.version)),
        own_interactions: own_interactions(&options.source),
    })
}

/// The kinds of interactions that `source` reads from our own tables.
fn own_interactions(source: &Source) -> Vec<InteractionKind> {
    [
        (InteractionKind::Like, &source.likes),
        (InteractionKind::Skip, &source.skips),
    ]
    .into_iter()
    .filter(|(kind, sql)| Source::is_ours(kind.table(), sql))
    .map(|(kind, _)| kind)
    .collect()
}
