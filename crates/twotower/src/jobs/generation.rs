//! A version's way to its readers once its vectors are in the database: index, user tower, check, gate, and one switch.

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

/// A version that comes into the database. The store is a publisher's.
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

/// How many vectors of each kind there must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) videos: u64,
    /// Those who were erased meanwhile among them; `None` where any number will do.
    pub(super) users: Option<u64>,
}

/// Whether readers are to see the version, and why.
pub(super) struct Switching<'a> {
    pub(super) switch: bool,
    /// Whatever the gate says.
    pub(super) force: bool,
    /// Kept with the activation.
    pub(super) reason: &'a str,
}

/// What came of a version that was to be made active, or not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Completed {
    pub(super) activated: bool,
    /// The experiment that it would have ended, so that it waits as a candidate.
    pub(super) held_back_by: Option<i64>,
}

impl Generation<'_> {
    /// Whether readers see it already.
    pub(super) fn live(&self) -> bool {
        self.active == Some(self.version)
    }

    /// Refuses to take readers back to an older version, which `folder` holds.
    pub(super) fn is_not_older(&self, folder: &Path) -> anyhow::Result<()> {
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

    /// Refuses another model than the one registered under this number: rows of that one would count as unchanged, and servers that hold
    /// its folder would go on with its user tower.
    pub(super) async fn is_registered_as(&self, manifest: &Manifest) -> anyhow::Result<()> {
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

    /// Registers it, unless readers see it.
    pub(super) async fn register(&self, manifest: &Manifest) -> anyhow::Result<()> {
        if self.live() {
            return Ok(());
        }
        let new = new_model(manifest);
        self.retry
            .run("register the model", || self.store.register_model(&new))
            .await
            .context("register the model")
    }

    /// What its readers need besides the vectors, of which `rows` are of videos.
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

    /// The user tower for those who ask in SQL, also of a version that became active before there was a place for it.
    async fn write_user_tower(&self, model: &Model) -> anyhow::Result<()> {
        let written = self
            .retry
            .run("write the user tower", || {
                self.store.write_user_tower(self.version, &model.user_tower)
            })
            .await
            .context("write the user tower")?;
        if !written && self.store.kind() == StoreKind::Postgres {
            tracing::warn!(
                "the user tower is too wide for pgvector's vectors: recommend_videos blends the vectors of users whose stored one is older \
                 than their last like"
            );
        }
        Ok(())
    }

    /// Looks at all vectors before anybody else does. Missing ones are the next run's to add; bad ones are the model's fault. `erased` tells
    /// how many of the users wanted were erased until now.
    pub(super) async fn check(
        &self,
        wanted: Wanted,
        erased: impl AsyncFn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<()> {
        let (store, version, dim) = (self.store, self.version, self.dim);
        let mut gone = erased().await?;
        let verdict = loop {
            let expected = Expected {
                videos: wanted.videos,
                users: wanted.users.map(|users| users.saturating_sub(gone)),
            };
            let verdict = self
                .retry
                .run("check the vectors", || {
                    check_vectors(store, version, dim, Some(expected))
                })
                .await
                .context("check the vectors")?;
            // Somebody may have been erased while the vectors were counted.
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
                .run("give up the version", || store.fail_model(version, &reason))
                .await?;
        }
        Err(fault).context("readers are not switched")
    }

    /// The gate's verdict, which is kept in the registry; `None` without a gate. `models` is the folder that should hold the version that
    /// readers see.
    pub(super) async fn ask_gate(
        &self,
        gate: Option<&Gate>,
        challenger: Challenger,
        models: &Path,
        snapshot: Snapshot,
    ) -> anyhow::Result<Option<Verdict>> {
        let Some(gate) = gate.cloned() else {
            return Ok(None);
        };
        let champion = self
            .retry
            .run("read the registry", || self.store.active_model())
            .await
            .context("read the registry")?;
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
            .run("keep the verdict", || store.record_verdict(version, &kept))
            .await?;
        Ok(Some(verdict))
    }

    /// Loading is over. With the switch in one transaction, so that nobody takes it for a candidate that was held back.
    ///
    /// While an experiment runs, readers are switched by those alone who decide to end it, not by the next model that is trained.
    pub(super) async fn complete(
        &self,
        switching: &Switching<'_>,
        verdict: Option<&Verdict>,
    ) -> anyhow::Result<Completed> {
        let (store, version) = (self.store, self.version);
        let experiment = self
            .retry
            .run("look for an experiment", || {
                experiment_against(store, self.active)
            })
            .await
            .context("look for an experiment")?;
        let held_back_by = experiment.filter(|_| switching.switch && !switching.force);
        let refused = verdict.filter(|verdict| !verdict.passed());
        if !switching.switch || held_back_by.is_some() || (refused.is_some() && !switching.force) {
            let candidate = || store.set_model_state(version, ModelState::Candidate);
            self.retry.run("keep the candidate", candidate).await?;
            if let Some(verdict) = refused.filter(|_| switching.switch) {
                return Err(JobError::Refused {
                    version,
                    verdict: verdict.clone(),
                }
                .into());
            }
            if let Some(id) = held_back_by {
                tracing::warn!(
                    "version {version} stays a candidate, since making it active would end experiment {id}"
                );
            }
            return Ok(Completed {
                activated: false,
                held_back_by,
            });
        }
        let activation = Activation {
            version,
            kind: ActivationKind::Loaded,
            by: operator(),
            reason: switching.reason.to_owned(),
            forced: refused.is_some(),
        };
        let ended = self
            .retry
            .run("switch readers", || store.activate_model(&activation))
            .await
            .context("switch readers to the model")?;
        if let Some(id) = ended {
            tracing::warn!("experiment {id} is over, since version {version} was made active");
        }
        Ok(Completed {
            activated: true,
            held_back_by: None,
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
