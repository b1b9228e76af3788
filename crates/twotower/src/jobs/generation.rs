//! The steps that bring a version to its readers once its vectors are in the database: index, user
//! tower, check, gate, and one switch.

use super::check::{Expected, VectorFault, check_vectors};
use super::gate::{Challenger, Gate};
use super::identity::operator;
use super::models::experiment_against;
use super::{JobError, Retry, index};
use crate::config::Update;
use anyhow::{Context, ensure};
use std::path::Path;
use twotower_core::gate::Verdict;
use twotower_core::model::Model;
use twotower_store::model_files::Manifest;
use twotower_store::{
    Activation, ActivationKind, IndexPlan, ModelState, NewModel, Snapshot, Store, StoreError,
    StoreKind,
};

/// A version whose vectors are written into the database. The store is a publisher's.
pub(super) struct Generation<'a> {
    pub(super) store: &'a Store,
    pub(super) retry: &'a Retry,
    pub(super) settings: &'a Update,
    pub(super) version: i64,
    /// Dimension of its vectors.
    pub(super) dim: usize,
    /// The version that readers see.
    pub(super) active: Option<i64>,
}

/// Whether readers are to see the version, and why.
pub(super) struct Switching<'a> {
    pub(super) switch: bool,
    /// Make the version active even if the gate refuses it or an experiment ends with it.
    pub(super) force: bool,
    /// Recorded with the activation.
    pub(super) reason: &'a str,
    /// Judges the version first.
    pub(super) gate: Option<&'a Gate>,
    /// Folder of models, which should hold the active version for the gate.
    pub(super) models: &'a Path,
}

/// The outcome of [`Generation::finish`].
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) activated: bool,
    /// The experiment that the switch would have ended, so that the version stays a candidate.
    pub(super) held_back_by: Option<i64>,
    /// The gate's, if it was asked.
    pub(super) verdict: Option<Verdict>,
}

impl Generation<'_> {
    /// Whether readers see the version already.
    pub(super) fn is_live(&self) -> bool {
        self.active == Some(self.version)
    }

    /// Refuses to take readers back to an older version. `folder` holds it.
    ///
    /// # Errors
    /// If the active version is newer.
    pub(super) fn ensure_not_older(&self, folder: &Path) -> anyhow::Result<()> {
        let version = self.version;
        let active = self.active.unwrap_or(version);
        ensure!(
            active <= version,
            "version {active} is served already and newer than version {version} of {}: name the newer model's folder, or add \
             --no-activate and then run `twotower rollback --to {version}`",
            folder.display()
        );
        Ok(())
    }

    /// Refuses a model other than the one that is registered under this number: rows of that one
    /// would count as unchanged, and servers that hold its folder would go on with its user tower.
    ///
    /// # Errors
    /// [`StoreError::OtherModel`], or the store fails. An unregistered version passes.
    pub(super) async fn ensure_registered_as(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let registered = self
            .retry
            .run("read the registry", || {
                self.store.model_details(self.version)
            })
            .await;
        match registered {
            Ok(details) => Ok(details.record.is_model(&manifest.checksum)?),
            Err(StoreError::UnknownModel(_)) => Ok(()),
            Err(error) => Err(error).context("read the registry"),
        }
    }

    /// Registers the version, unless readers see it already.
    pub(super) async fn register(&self, manifest: &Manifest) -> anyhow::Result<()> {
        if self.is_live() {
            return Ok(());
        }
        let new = new_model(manifest);
        self.retry
            .call("register the model", || self.store.register_model(&new))
            .await
    }

    /// Makes what readers need besides the vectors. `rows`: number of video vectors.
    pub(super) async fn prepare(&self, model: &Model, rows: u64) -> anyhow::Result<()> {
        let plan = IndexPlan {
            version: self.version,
            dim: self.dim,
            rows,
            memory_cap_mb: self.settings.index_memory_mb,
        };
        index::build(self.store, self.retry, self.settings, &plan).await?;
        self.write_user_tower(model).await?;
        index::refresh_statistics(self.store, self.retry).await;
        Ok(())
    }

    /// Writes the user tower for recommendations in SQL, even for a version that is active already:
    /// it may have been activated before the database had a table for it.
    async fn write_user_tower(&self, model: &Model) -> anyhow::Result<()> {
        let written = self
            .retry
            .call("write the user tower", || {
                self.store.write_user_tower(self.version, &model.user_tower)
            })
            .await?;
        if !written && self.store.kind() == StoreKind::Postgres {
            tracing::warn!(
                "the user tower is too wide for pgvector's vectors: recommend_videos blends the vectors of users whose stored one is older \
                 than their last like"
            );
        }
        Ok(())
    }

    /// The last steps of a version that readers do not see yet: the check of its vectors, the gate,
    /// and the switch.
    ///
    /// `expected` counts the users whose vectors were written; `erased` returns how many of them
    /// have been erased since. `challenger` is awaited only if there is a gate.
    ///
    /// # Errors
    /// If the vectors are not as expected, the gate refuses the version, or the store fails. The
    /// active version stays then.
    pub(super) async fn finish(
        &self,
        switching: &Switching<'_>,
        expected: Expected,
        erased: impl AsyncFn() -> anyhow::Result<u64>,
        challenger: impl Future<Output = anyhow::Result<(Challenger, Snapshot)>>,
    ) -> anyhow::Result<Finished> {
        self.check(expected, erased).await?;
        let verdict = match switching.gate {
            Some(gate) => {
                let (challenger, snapshot) = challenger.await?;
                let models = switching.models;
                Some(self.ask_gate(gate, challenger, models, snapshot).await?)
            }
            None => None,
        };
        self.switch(switching, verdict).await
    }

    /// Reads all vectors before any reader does. The next run adds missing vectors; wrong ones are
    /// the fault of the model, which is given up.
    async fn check(
        &self,
        all: Expected,
        erased: impl AsyncFn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<()> {
        let (store, version, dim) = (self.store, self.version, self.dim);
        let mut gone = erased().await?;
        let verdict = loop {
            let expected = Expected {
                videos: all.videos,
                users: all.users.map(|users| users.saturating_sub(gone)),
            };
            let verdict = self
                .retry
                .call("check the vectors", || {
                    check_vectors(store, version, dim, Some(expected))
                })
                .await?;
            // A user may have been erased while the vectors were counted.
            let before = std::mem::replace(&mut gone, erased().await?);
            if verdict.is_ok() || before == gone {
                break verdict;
            }
        };
        let Err(fault) = verdict else {
            return Ok(());
        };
        if let VectorFault::Wrong { .. } = fault {
            let reason = fault.to_string();
            self.retry
                .call("give up the version", || store.fail_model(version, &reason))
                .await?;
        }
        Err(fault).context("readers are not switched")
    }

    /// Asks the gate, and records its verdict in the registry. `models` should hold the version
    /// that readers see.
    async fn ask_gate(
        &self,
        gate: &Gate,
        challenger: Challenger,
        models: &Path,
        snapshot: Snapshot,
    ) -> anyhow::Result<Verdict> {
        let gate = gate.clone();
        let champion = self
            .retry
            .call("read the registry", || self.store.active_model())
            .await?;
        let champion = champion.map(|record| {
            let folder = models.join(record.version.to_string());
            (record, folder)
        });
        let verdict = tokio::task::spawn_blocking(move || {
            gate.judge(&challenger, champion, &snapshot.dataset)
        })
        .await?
        .context("judge the model")?;
        tracing::info!("the quality gate: {verdict}");
        let (store, version) = (self.store, self.version);
        let kept = serde_json::to_value(&verdict)?;
        self.retry
            .call("keep the verdict", || store.record_verdict(version, &kept))
            .await?;
        Ok(verdict)
    }

    /// Ends the state `loading`: readers are switched, or the version becomes a candidate. The
    /// switch is one transaction, so that the version is never seen as a candidate that was held
    /// back.
    ///
    /// While an experiment runs, only a deliberate decision to end it switches readers, not the
    /// next model that is trained.
    async fn switch(
        &self,
        switching: &Switching<'_>,
        verdict: Option<Verdict>,
    ) -> anyhow::Result<Finished> {
        let (store, version) = (self.store, self.version);
        let experiment = self
            .retry
            .call("look for an experiment", || {
                experiment_against(store, self.active)
            })
            .await?;
        let held_back_by = experiment.filter(|_| switching.switch && !switching.force);
        let refused = verdict.as_ref().filter(|verdict| !verdict.passed());
        let is_refused = refused.is_some();
        if !switching.switch || held_back_by.is_some() || (is_refused && !switching.force) {
            let candidate = || store.set_model_state(version, ModelState::Candidate);
            self.retry.call("keep the candidate", candidate).await?;
            if let Some(verdict) = refused.filter(|_| switching.switch) {
                let verdict = verdict.clone();
                return Err(JobError::Refused { version, verdict }.into());
            }
            if let Some(id) = held_back_by {
                tracing::warn!(
                    "version {version} stays a candidate, since making it active would end experiment {id}"
                );
            }
            return Ok(Finished {
                activated: false,
                held_back_by,
                verdict,
            });
        }
        let activation = Activation {
            version,
            kind: ActivationKind::Loaded,
            by: operator(),
            reason: switching.reason.to_owned(),
            forced: is_refused,
        };
        let ended = self
            .retry
            .call("switch readers to the model", || {
                store.activate_model(&activation)
            })
            .await?;
        if let Some(id) = ended {
            tracing::warn!("experiment {id} is over, since version {version} was made active");
        }
        Ok(Finished {
            activated: true,
            held_back_by: None,
            verdict,
        })
    }
}

fn new_model(manifest: &Manifest) -> NewModel {
    NewModel {
        version: manifest.version,
        embedding_dim: manifest.hyperparameters.embedding_dim,
        cut_off_us: manifest.trained_on.cut_off_us,
        snapshot_sha256: manifest.trained_on.snapshot_sha256.clone(),
        hyperparameters: serde_json::to_value(&manifest.hyperparameters).unwrap_or_default(),
        metrics: manifest.metrics.clone(),
        manifest_sha256: manifest.checksum.clone(),
        erasures_seen: manifest.trained_on.erasures_seen,
    }
}
