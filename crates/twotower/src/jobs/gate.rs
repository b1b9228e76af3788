//! Asks the quality gate about a version before it is served.

use crate::config::Config;
use anyhow::Context;
use std::path::{Path, PathBuf};
use twotower_core::embedding::Embeddings;
use twotower_core::gate::{self, Check, Contender, GateOptions, Judged, Verdict};
use twotower_core::interaction::Dataset;
use twotower_core::metric::Bootstrap;
use twotower_core::model::Model;
use twotower_core::split::{Phase, Split};
use twotower_core::time::SECOND_US;
use twotower_store::ModelRecord;
use twotower_store::model_files::{self, Manifest};

/// The quality gate: how versions are judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gate {
    /// Minimum metrics and tolerances.
    pub(crate) options: GateOptions,
    /// Number of threads.
    pub(crate) threads: usize,
}

/// A version that is to be served, with its vectors of the videos in the data.
#[derive(Debug)]
pub(super) struct Challenger {
    pub(super) model: Model,
    pub(super) manifest: Manifest,
    pub(super) videos: Embeddings,
}

impl Gate {
    /// The gate of the configuration; `None` if it is turned off there.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        config.update.gate.then_some(Self {
            options: config.gate,
            threads: config.training.threads,
        })
    }

    /// Judges a model on the likes that are later than all that it and the champion have learned.
    /// `champion` is the registered active version, and the folder that should hold it.
    ///
    /// # Errors
    /// If the files of the champion are damaged, or a model gives scores that are not finite.
    pub(super) fn judge(
        &self,
        challenger: &Challenger,
        champion: Option<(ModelRecord, PathBuf)>,
        dataset: &Dataset,
    ) -> anyhow::Result<Verdict> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads.max(1))
            .build()?;
        let (mut loaded, mut missing) = (None, None);
        if let Some((record, folder)) = champion {
            if model_files::is_model(&folder) {
                let model = model_files::load(&folder).context("load the version served")?;
                match record.is_model(&model.1.checksum) {
                    Ok(()) => loaded = Some(model),
                    Err(_) => missing = Some(other(record.version, &folder)),
                }
            } else {
                missing = Some(absent(record.version, &folder));
            }
        }
        let champion = loaded.as_ref().map(|(model, manifest)| (model, manifest));
        let mut verdict = pool.install(|| self.rank(challenger, champion, dataset))?;
        verdict.checks.extend(missing);
        Ok(verdict)
    }

    fn rank(
        &self,
        challenger: &Challenger,
        champion: Option<(&Model, &Manifest)>,
        dataset: &Dataset,
    ) -> anyhow::Result<Verdict> {
        let theirs = champion
            .map(|(model, _)| model.embed_videos(dataset.catalogue.videos()))
            .transpose()
            .context("embed the videos")?;
        let contender = |model, manifest, videos| {
            let manifest: &Manifest = manifest;
            Contender {
                model,
                videos,
                likes: manifest.trained_on.likes,
                catalogue: manifest.trained_on.videos,
                since: manifest.trained_on.learned_since_us.map_or(0, seconds),
            }
        };
        let theirs_until = champion.and_then(|(_, manifest)| learned_until(manifest));
        let learned_until = learned_until(&challenger.manifest).max(theirs_until);
        let split = Split::after(dataset, learned_until.unwrap_or(0));
        Ok(gate::judge(
            contender(&challenger.model, &challenger.manifest, &challenger.videos),
            champion
                .zip(theirs.as_ref())
                .map(|((model, manifest), videos)| contender(model, manifest, videos)),
            Judged {
                catalogue: &dataset.catalogue,
                seen: &split.seen(Phase::Test),
                held_out: &split.held_out_users(Phase::Test),
            },
            &self.options,
            &Bootstrap::default(),
        )?)
    }
}

/// Time of the latest like that the model may have learned, seconds since 1970, if its manifest
/// says so.
pub(super) fn learned_until(manifest: &Manifest) -> Option<u32> {
    let trained_on = &manifest.trained_on;
    let at = trained_on.learned_until_us.or(trained_on.cut_off_us);
    at.map(seconds)
}

/// Microseconds to seconds since 1970, the unit of the model.
fn seconds(at_us: i64) -> u32 {
    (at_us / SECOND_US).clamp(0, i64::from(u32::MAX)) as u32
}

fn absent(version: i64, folder: &Path) -> Check {
    without_champion(format!(
        "version {version}, which is served, is not in {}, so that there is nothing to compare with: copy it there",
        folder.display()
    ))
}

/// The registered model is missing: comparing with another one would say nothing about the model
/// that is served.
fn other(version: i64, folder: &Path) -> Check {
    without_champion(format!(
        "{} holds another model than version {version}, which is served, so that there is nothing to compare with: move it away and put \
         the registered one there (`twotower fetch --version {version}`, or a copy from the machine that trained it)",
        folder.display()
    ))
}

/// A failed check, because a comparison that cannot be made must not count as passed.
fn without_champion(words: String) -> Check {
    Check {
        name: "champion".into(),
        passed: false,
        measured: 0.0,
        bound: 1.0,
        words,
    }
}
