//! Commands on the registry of models: list, switch readers, retire.

use super::check::{VectorFault, check_vectors};
use super::cohorts::ALL_USERS;
use super::publisher::Publisher;
use super::{JobError, Retry};
use crate::config::{Erase, Update};
use crate::interrupt::Interrupt;
use crate::time::day;
use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use twotower_core::gate::Verdict;
use twotower_core::time::DAY_US;
use twotower_store::{
    Activation, ActivationKind, ModelDetails, ModelRecord, ModelState, Store, StoreError,
    VectorTable, model_files, version_before,
};

/// A version, and the number of its vectors.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ListedModel {
    /// The record in the registry.
    #[serde(flatten)]
    pub(crate) record: ModelRecord,
    /// Number of video vectors.
    pub(crate) video_vectors: u64,
    /// Number of user vectors.
    pub(crate) user_vectors: u64,
    /// Time by which the version must be replaced because it may have learned from an erased user,
    /// microseconds since 1970.
    pub(crate) retire_by_us: Option<i64>,
    /// NDCG@10 on the test part of its own data, if it was measured.
    pub(crate) test_ndcg_at_10: Option<f64>,
}

/// Test NDCG@10 over all users, as training records it. Nothing was chosen by this figure.
pub(crate) fn test_ndcg_at_10(metrics: &Value) -> Option<f64> {
    let cohorts = metrics["cohorts"].as_array()?;
    let all = cohorts.iter().find(|cohort| cohort["name"] == ALL_USERS)?;
    all["ndcg_at_10"].as_f64()
}

/// All versions, the latest first.
///
/// # Errors
/// If the store fails.
pub(crate) async fn list(store: &Store, erase: &Erase) -> Result<Vec<ListedModel>, StoreError> {
    let retire_by = retire_by(store, erase.retire_days).await?;
    let count = async |table| -> Result<HashMap<i64, u64>, StoreError> {
        Ok(store.count_vectors(table).await?.into_iter().collect())
    };
    let (videos, users) = (
        count(VectorTable::Videos).await?,
        count(VectorTable::Users).await?,
    );
    let of = |counts: &HashMap<i64, u64>, version| counts.get(&version).copied().unwrap_or(0);
    let models = store.models().await?.into_iter();
    Ok(models
        .map(|record| ListedModel {
            video_vectors: of(&videos, record.version),
            user_vectors: of(&users, record.version),
            retire_by_us: retire_by.get(&record.version).copied(),
            test_ndcg_at_10: test_ndcg_at_10(&record.metrics),
            record,
        })
        .collect())
}

/// Time by which each version that may have learned from an erased user must be replaced,
/// microseconds since 1970.
///
/// # Errors
/// If the store fails.
pub(crate) async fn retire_by(store: &Store, days: u32) -> Result<HashMap<i64, i64>, StoreError> {
    let unseen = store.erasures_unseen().await?.into_iter();
    let days_us = i64::from(days) * DAY_US;
    Ok(unseen
        .map(|(version, erased_at_us)| (version, erased_at_us + days_us))
        .collect())
}

/// A decision to switch readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Who decided.
    pub(crate) by: String,
    /// The reason.
    pub(crate) reason: String,
    /// Switch even if the quality gate refused the version.
    pub(crate) force: bool,
    /// Do not switch if that ends an experiment.
    pub(crate) keep_experiment: bool,
}

/// Versions that readers see, after and before a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Switched {
    /// Version now.
    pub(crate) version: i64,
    /// Version before; the same if there was nothing to do.
    pub(crate) previous_version: Option<i64>,
    /// The experiment that ended, because it compared with the version before.
    pub(crate) ended_experiment: Option<i64>,
    /// The experiment that would have ended; nothing was done.
    pub(crate) held_back_by: Option<i64>,
}

/// Makes a complete version active, if all of its vectors exist and are sound.
///
/// # Errors
/// If the version may not be made active, its vectors are faulty, another process publishes
/// ([`JobError::Held`]), the user asks to stop before the switch ([`JobError::Interrupted`]), or
/// the store fails. The active version stays then.
pub(crate) async fn promote(
    store: &Store,
    version: i64,
    decision: &Decision,
    settings: &Update,
    interrupt: &Interrupt,
) -> anyhow::Result<Switched> {
    let publisher = Publisher::begin_or_fail(store, settings).await?;
    let switch = Switch {
        store: publisher.store(),
        decision,
        settings,
        interrupt,
    };
    let switched = switch.to(version, ActivationKind::Promotion).await;
    publisher.end().await;
    switched
}

/// Makes `to` active, or the version that was active before the present one.
///
/// # Errors
/// As [`promote`], and if no version was active before.
pub(crate) async fn rollback(
    store: &Store,
    to: Option<i64>,
    decision: &Decision,
    settings: &Update,
    interrupt: &Interrupt,
) -> anyhow::Result<Switched> {
    let publisher = Publisher::begin_or_fail(store, settings).await?;
    let back = async {
        let before = match to {
            Some(version) => version,
            None => version_before(&publisher.store().activations().await?)
                .context("no version was active before this one: name one with --to")?,
        };
        let switch = Switch {
            store: publisher.store(),
            decision,
            settings,
            interrupt,
        };
        switch.to(before, ActivationKind::Rollback).await
    };
    let switched = back.await;
    publisher.end().await;
    switched
}

/// A publisher about to switch readers.
struct Switch<'a> {
    store: &'a Store,
    decision: &'a Decision,
    settings: &'a Update,
    interrupt: &'a Interrupt,
}

impl Switch<'_> {
    async fn to(&self, version: i64, kind: ActivationKind) -> anyhow::Result<Switched> {
        let (store, decision) = (self.store, self.decision);
        let details = store.model_details(version).await?;
        let record = &details.record;
        let active = store.active_model().await?.map(|active| active.version);
        let mut switched = Switched {
            version,
            previous_version: active,
            ended_experiment: None,
            held_back_by: None,
        };
        match record.state {
            ModelState::Active => return Ok(switched),
            ModelState::Candidate | ModelState::Retired => {}
            state => return Err(StoreError::NotActivatable { version, state }.into()),
        }
        if let Some(at) = record.pruned_at_us {
            let on = day(at);
            return Err(VectorFault::Pruned { version, on }.into());
        }
        if decision.keep_experiment {
            let experiment = experiment_against(store, active).await?;
            if experiment.is_some() {
                switched.version = active.unwrap_or(version);
                switched.held_back_by = experiment;
                return Ok(switched);
            }
        }
        // This reads all vectors. If the user asks to stop meanwhile, readers are not switched.
        let checked = check_vectors(store, version, record.embedding_dim, None);
        self.interrupt.cut(checked).await???;
        let refused = refusal(&details).filter(|_| kind == ActivationKind::Promotion);
        let forced = refused.is_some();
        if let Some(refused) = refused.filter(|_| !decision.force) {
            return Err(refused.into());
        }
        let activation = Activation {
            version,
            kind,
            by: decision.by.clone(),
            reason: decision.reason.clone(),
            forced,
        };
        // The answer to a switch that succeeded may be lost.
        switched.ended_experiment = Retry::new(self.settings.attempts)
            .call("switch readers", || store.activate_model(&activation))
            .await?;
        Ok(switched)
    }
}

/// The running experiment that compares with the active version, and ends when another version
/// becomes active.
pub(super) async fn experiment_against(
    store: &Store,
    active: Option<i64>,
) -> Result<Option<i64>, StoreError> {
    let running = store.running_experiment().await?;
    let against = running.filter(|experiment| experiment.is_against(active));
    Ok(against.map(|experiment| experiment.id))
}

/// The refusal of the quality gate, if it refused the version. A verdict that cannot be read counts
/// as a refusal.
fn refusal(details: &ModelDetails) -> Option<JobError> {
    let version = details.record.version;
    match serde_json::from_value::<Verdict>(details.verdict.clone()?) {
        Ok(verdict) if verdict.passed() => None,
        Ok(verdict) => Some(JobError::Refused { version, verdict }),
        Err(reason) => Some(JobError::UnreadableVerdict { version, reason }),
    }
}

/// The version of the model in `folder`, if the quality gate refused it and nobody has made it
/// active in spite of that.
///
/// # Errors
/// If the model cannot be read, or the store fails or does not know it.
pub(crate) async fn refused(store: &Store, folder: &Path) -> anyhow::Result<Option<i64>> {
    let folder = folder.to_owned();
    let manifest = tokio::task::spawn_blocking(move || model_files::manifest(&folder)).await??;
    let details = store.model_details(manifest.version).await?;
    let is_it = details.record.is_model(&manifest.checksum).is_ok();
    let waits = details.record.state == ModelState::Candidate;
    Ok((is_it && waits && refusal(&details).is_some()).then_some(manifest.version))
}

/// Takes a version out of use: a candidate becomes retired, one that is still loading is given up.
/// Returns its state.
///
/// # Errors
/// If the version is active, another process publishes, or the store fails.
pub(crate) async fn retire(
    store: &Store,
    version: i64,
    settings: &Update,
) -> anyhow::Result<ModelState> {
    let publisher = Publisher::begin_or_fail(store, settings).await?;
    let retired = take_out(publisher.store(), version).await;
    publisher.end().await;
    Ok(retired?)
}

async fn take_out(store: &Store, version: i64) -> Result<ModelState, StoreError> {
    match store.model_details(version).await?.record.state {
        ModelState::Active => Err(StoreError::ActiveModel(version)),
        ModelState::Candidate => {
            let retired = ModelState::Retired;
            store.set_model_state(version, retired).await?;
            Ok(retired)
        }
        ModelState::Loading => {
            store
                .fail_model(version, "retired before it was loaded")
                .await?;
            Ok(ModelState::Failed)
        }
        state @ (ModelState::Retired | ModelState::Failed) => Ok(state),
    }
}
