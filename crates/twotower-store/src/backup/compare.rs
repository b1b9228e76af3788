//! Whether a backup goes into a database, and what of it.

use super::{
    ACTIVATIONS, Backup, BackupError, EXPERIMENTS, MODELS, RestoreOptions, TOMBSTONE_SALT,
};
use crate::{Activation, ActivationKind};
use serde::Deserialize;
use std::collections::HashMap;

/// What tells a version apart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ModelKey {
    pub(crate) version: i64,
    pub(crate) manifest_sha256: String,
}

/// What tells an activation apart.
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

/// What a database holds before anything is restored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) models: Vec<ModelKey>,
    /// Oldest first.
    pub(crate) activations: Vec<ActivationKey>,
    /// (id, beginning, whether it has ended)
    pub(crate) experiments: Vec<(i64, i64, bool)>,
    /// Hexadecimal digits.
    pub(crate) salt: String,
    /// Tombstones.
    pub(crate) erased: u64,
    /// Vectors of versions of the backup that were written after it.
    pub(crate) newer_vectors: u64,
}

impl Target {
    /// From (version, its manifest's checksum), (version, time of its activation), and (salt, tombstones, newer vectors).
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

/// What is to be written besides the rows themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestorePlan {
    /// Activations of the backup that the database has already, from the first on.
    pub(crate) known_activations: usize,
    /// Whether those that follow are taken over. Not where the database has a history of its own.
    pub(crate) history: bool,
    /// The activation that goes back to the backup's version in a database with a history of its own.
    pub(crate) switch: Option<Activation>,
    /// Salt of the tombstones, hexadecimal digits.
    pub(crate) salt: String,
    /// The experiment that runs in the backup.
    pub(crate) running: Option<i64>,
    /// What is newer in the database, in words.
    pub(crate) newer: Vec<String>,
}

/// Decides.
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
    })
}
