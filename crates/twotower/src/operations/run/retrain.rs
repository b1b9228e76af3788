//! Retraining: train → load → publish → promote → prune → evaluate.
//!
//! Loading runs the quality gate without switching readers. So a refused model is not published,
//! and one that other machines serve is in the storage before the database names it. Pruning
//! follows whatever becomes of the model: retention periods do not wait for a model that passes.
//! The report comes last: it takes about as long as the training, and readers do not wait for it.

mod progress;

use super::Outcome;
use super::backoff::Backoff;
use super::error::RunError;
use super::lock;
use super::prune::prune_after;
use super::steps::{Steps, Waiting};
use super::update::is_held;
use crate::config::Config;
use crate::exit_code::{REFUSED, TOO_LITTLE_DATA};
use crate::jobs::{JobError, LeftAlone};
use crate::operations::Job;
use crate::time::now_us;
use progress::{Progress, ProgressFile, Step};
use serde_json::Value;
use std::time::{Duration, Instant};
use twotower_core::gate::Verdict;
use twotower_store::model_files;

pub(super) async fn retrain(
    steps: &mut Steps<'_>,
    config: &Config,
    fine_tune: bool,
) -> Result<Outcome, RunError> {
    let file = ProgressFile::new(&config.run.state_dir);
    let progress = begin(&file, config, fine_tune)?;
    let mut retraining = Retraining {
        steps,
        config,
        file: &file,
        progress,
    };
    let outcome = retraining.run().await;
    let over = match &outcome {
        Ok(_) | Err(RunError::Refused { .. } | RunError::Decided { .. }) => true,
        Err(_) => false,
    };
    let outcome = match outcome {
        // The model did not need its last steps. After a failure, pruning is left to the run that
        // resumes this one.
        Ok(Outcome::NothingNew(_)) | Err(RunError::Refused { .. } | RunError::Decided { .. }) => {
            prune_after(steps, outcome).await
        }
        outcome => outcome,
    };
    if over {
        file.remove()?;
    }
    outcome
}

/// The progress of a retraining that was cut off, or a new one.
fn begin(file: &ProgressFile, config: &Config, fine_tune: bool) -> Result<Progress, RunError> {
    let models = &config.training.output_dir;
    let newest = newest(config);
    if let Some(mut progress) = file.load(fine_tune, now_us())? {
        // The training may have finished after the run that waited for it was killed.
        if progress.version.is_none()
            && let Some(version) = trained_since(&progress, config)
        {
            progress.version = Some(version);
            progress.done.push(Step::Train);
        }
        match progress.version {
            // Its training has the whole limit of this run.
            None => {
                progress.at_us = now_us();
                file.save(&progress)?;
                return Ok(progress);
            }
            Some(version) if model_files::is_model(&models.join(version.to_string())) => {
                let done: Vec<String> = progress.done.iter().map(Step::to_string).collect();
                tracing::info!(
                    "the retraining that was cut off goes on with model {version} (done: {})",
                    done.join(", ")
                );
                return Ok(progress);
            }
            Some(_) => {}
        }
    }
    let progress = Progress {
        at_us: now_us(),
        fine_tune,
        newest_before: newest,
        version: None,
        done: Vec::new(),
    };
    file.save(&progress)?;
    Ok(progress)
}

/// The model of a retraining that has not saved its version. One that was made when the time of the
/// run was over is another's.
fn trained_since(progress: &Progress, config: &Config) -> Option<i64> {
    let newest = newest(config).filter(|newest| Some(*newest) > progress.newest_before)?;
    let folder = config.training.output_dir.join(newest.to_string());
    let manifest = model_files::manifest(&folder).ok()?;
    let limit_us = config.run.limit(Job::Retrain).as_micros() as i64;
    let until_us = progress.at_us.saturating_add(limit_us);
    // A fetched model may be older, and a full training continues from no other model.
    let is_its = (progress.at_us..=until_us).contains(&manifest.created_at_us)
        && (progress.fine_tune || manifest.trained_on.fine_tuned_from.is_none());
    is_its.then_some(newest)
}

/// The models that `twotower update` leaves to a retraining: until it is over, its own model is not
/// published, or nobody knows whether it passes the gate.
pub(crate) fn left_to_retraining(config: &Config) -> LeftAlone {
    let state_dir = &config.run.state_dir;
    let progress = match ProgressFile::new(state_dir).read() {
        Ok(Some(progress)) => progress,
        Ok(None) => return LeftAlone::Nothing,
        Err(error) => {
            tracing::warn!("whether a retraining is at work cannot be read: {error}");
            return LeftAlone::Nothing;
        }
    };
    if let Some(version) = progress.version {
        return LeftAlone::Version(version);
    }
    if lock::is_held(state_dir, Job::Retrain) {
        return LeftAlone::AllNew;
    }
    trained_since(&progress, config).map_or(LeftAlone::Nothing, LeftAlone::Version)
}

/// The newest model folder; `None` if the folder cannot be read, which training reports if it
/// matters.
fn newest(config: &Config) -> Option<i64> {
    let versions = model_files::versions(&config.training.output_dir);
    versions.unwrap_or_default().into_iter().max()
}

struct Retraining<'a, 'b> {
    steps: &'a mut Steps<'b>,
    config: &'a Config,
    file: &'a ProgressFile,
    progress: Progress,
}

impl Retraining<'_, '_> {
    async fn run(&mut self) -> Result<Outcome, RunError> {
        self.steps.model_version = self.progress.version;
        for step in Step::ALL {
            if self.progress.done.contains(&step) {
                continue;
            }
            match step {
                Step::Train => {
                    if let Err(error) = self.train().await {
                        return self.not_trained(error);
                    }
                }
                Step::Load => self.load().await?,
                Step::Publish => self.publish().await?,
                Step::Promote => self.promote().await?,
                Step::Prune => self.prune().await?,
                Step::Evaluate => {
                    if let Some(missing) = self.evaluate().await? {
                        return Ok(missing);
                    }
                }
            }
            self.progress.done.push(step);
            self.progress.at_us = now_us();
            self.file.save(&self.progress)?;
        }
        Ok(Outcome::Done)
    }

    async fn train(&mut self) -> Result<(), RunError> {
        let from = if self.progress.fine_tune {
            self.base().await?
        } else {
            None
        };
        let mut words = vec!["train", "--resume=if-same"];
        if let Some(from) = &from {
            words.extend(["--from", from.as_str()]);
        }
        let trained = self.steps.step(&words, Waiting::Attempts).await?;
        let version = number(&trained["train"]["version"], "train", "train.version")?;
        self.progress.version = Some(version);
        self.steps.model_version = Some(version);
        Ok(())
    }

    /// What a training that did not succeed comes to.
    fn not_trained(&self, error: RunError) -> Result<Outcome, RunError> {
        if let RunError::Interrupted = error {
            return Err(error);
        }
        // It has failed for good. A model that somebody trains afterwards is not its result.
        if trained_since(&self.progress, self.config).is_none()
            && let Err(cause) = self.file.remove()
        {
            tracing::warn!("{cause}");
        }
        match error {
            // Too few likes at all have the same exit code, and are a failure.
            RunError::Failed {
                code: Some(TOO_LITTLE_DATA),
                message,
                ..
            } if message.contains(JobError::NOTHING_NEW) => Ok(Outcome::NothingNew(message)),
            error => Err(error),
        }
    }

    /// The model to fine-tune: the active one, not a newer one that was refused or rolled back.
    /// Without one, a model is trained from scratch.
    async fn base(&mut self) -> Result<Option<String>, RunError> {
        let models = self.models(Waiting::Attempts).await?;
        let active = models.iter().find(|model| model["state"] == "active");
        let version = active.and_then(|model| model["version"].as_i64());
        Ok(version.map(|version| self.folder(version)))
    }

    async fn models(&mut self, waiting: Waiting) -> Result<Vec<Value>, RunError> {
        match self.steps.step(&["models", "list"], waiting).await? {
            Value::Array(models) => Ok(models),
            _ => Err(RunError::Result {
                step: "models list".into(),
                missing: "a list",
            }),
        }
    }

    fn folder(&self, version: i64) -> String {
        let folder = self.config.training.output_dir.join(version.to_string());
        folder.display().to_string()
    }

    fn version(&self) -> Result<i64, RunError> {
        self.progress.version.ok_or(RunError::Result {
            step: "train".into(),
            missing: "train.version",
        })
    }

    async fn load(&mut self) -> Result<(), RunError> {
        let folder = self.folder(self.version()?);
        let words = ["update", "--no-activate", "--model-path", &folder];
        let loaded = self.step_alone(&words).await?;
        let verdict: Option<Verdict> =
            serde_json::from_value(loaded["verdict"].clone()).map_err(|_| RunError::Result {
                step: "update".into(),
                missing: "a verdict that can be read",
            })?;
        match verdict.filter(|verdict| !verdict.passed()) {
            None => Ok(()),
            Some(verdict) => {
                self.steps.exit_code = Some(REFUSED);
                Err(RunError::Refused {
                    message: format!(
                        "version {} was {verdict}\nreaders keep what they see, and it is not published",
                        self.version()?
                    ),
                })
            }
        }
    }

    /// Runs a step that needs the publisher's lease: waits until no other process holds it.
    async fn step_alone(&mut self, words: &[&str]) -> Result<Value, RunError> {
        let pause = Duration::from_secs(self.steps.settings.pause_seconds.into());
        for pause in Backoff::endless(pause) {
            let result = self.steps.step(words, Waiting::WhileThereIsTime).await?;
            if !is_held(&result) {
                return Ok(result);
            }
            if Instant::now() + pause >= self.steps.deadline {
                break;
            }
            tracing::info!("another process publishes: waiting for it");
            self.steps.pause(pause).await?;
        }
        Err(self.steps.timed_out(words.join(" ")))
    }

    async fn publish(&mut self) -> Result<(), RunError> {
        if self.config.storage.url.is_none() {
            return Ok(());
        }
        let key = self.config.run.signing_key.as_ref();
        let key = key.map(|file| file.display().to_string());
        if key.is_none() && !key_in_environment() {
            tracing::warn!(
                "model {} is not published, as nothing says what to sign it with: `signing_key` of section [run] names the file of a key",
                self.version()?
            );
            return Ok(());
        }
        let folder = self.folder(self.version()?);
        let mut words = vec!["publish", "--model-path", &folder];
        if let Some(key) = &key {
            words.extend(["--signing-key", key]);
        }
        self.steps.step(&words, Waiting::WhileThereIsTime).await?;
        Ok(())
    }

    /// Makes the version active, unless somebody has decided about it or activated a newer one.
    async fn promote(&mut self) -> Result<(), RunError> {
        let version = self.version()?;
        let models = self.models(Waiting::WhileThereIsTime).await?;
        let of = |model: &&Value| model["version"] == version;
        let state = models
            .iter()
            .find(of)
            .and_then(|model| model["state"].as_str());
        let newer = models.iter().any(|model| {
            model["state"] == "active" && model["version"].as_i64().is_some_and(|it| it > version)
        });
        match state {
            Some("active") => return Ok(()),
            Some("candidate") if !newer => {}
            state => {
                let found = if newer {
                    "older than the active one"
                } else {
                    state.unwrap_or("gone")
                };
                return Err(RunError::Decided {
                    version,
                    found: found.into(),
                });
            }
        }
        let version = version.to_string();
        let words = [
            "models",
            "promote",
            &version,
            "--reason",
            "retrain",
            "--keep-experiment",
        ];
        let promoted = self.steps.step(&words, Waiting::WhileThereIsTime).await?;
        if let Some(id) = promoted["held_back_by"].as_i64() {
            tracing::warn!(
                "version {version} stays a candidate, since making it active would end experiment {id}"
            );
        }
        Ok(())
    }

    async fn prune(&mut self) -> Result<(), RunError> {
        self.step_alone(&["prune"]).await?;
        Ok(())
    }

    /// Skipped for a fine-tuned model, which only the gate can compare with others: its base model
    /// has seen the data that would be held out. A failure leaves the model as it is.
    async fn evaluate(&mut self) -> Result<Option<Outcome>, RunError> {
        if !self.config.run.evaluate || self.progress.fine_tune {
            return Ok(None);
        }
        let exit_code = self.steps.exit_code;
        let folder = self.folder(self.version()?);
        let words = ["evaluate", "--model-path", &folder];
        match self.steps.step(&words, Waiting::Attempts).await {
            Ok(_) => Ok(None),
            Err(RunError::Interrupted) => Err(RunError::Interrupted),
            Err(error) => {
                self.steps.exit_code = exit_code;
                let message = format!("the model has no report: {error}");
                tracing::error!("{message}");
                Ok(Some(Outcome::WithoutReport(message)))
            }
        }
    }
}

/// Whether `twotower publish` finds a key in its environment.
fn key_in_environment() -> bool {
    ["TWOTOWER_SIGNING_KEY", "TWOTOWER_SIGNING_KEY_FILE"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.trim().is_empty()))
}

fn number(value: &Value, step: &str, missing: &'static str) -> Result<i64, RunError> {
    value.as_i64().ok_or_else(|| RunError::Result {
        step: step.into(),
        missing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_core::time::HOUR_US;

    #[test]
    fn a_training_that_is_gone_on_with_has_the_whole_time_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.training.output_dir = folder.path().join("models");
        config.run.state_dir = folder.path().join("state");
        let file = ProgressFile::new(&config.run.state_dir);
        let before = now_us();
        let mut cut_off = begin(&file, &config, false).unwrap();
        cut_off.at_us = before - 20 * HOUR_US;
        file.save(&cut_off).unwrap();
        let again = begin(&file, &config, false).unwrap();
        assert!(again.at_us >= before, "{again:?}");
        assert_eq!(file.read().unwrap(), Some(again));
    }
}
