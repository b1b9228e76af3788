//! Reads the records of jobs, and the quality of the model that answers, for the metrics.

use super::{Snapshots, background};
use crate::operations::Job;
use crate::serve::metrics::{JobFigures, Metrics, Success};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use twotower_core::gate::Verdict;
use twotower_store::{RunRecord, RunState, Store, StoreError};

const EVERY: Duration = Duration::from_mins(1);

/// At most this many runs of a job are read.
const MAX_RUNS: u32 = 50;

/// Measures of the quality gate that metrics report.
const QUALITY: [&str; 2] = ["auc", "precision_at_10"];

/// Reads records and updates metrics.
#[derive(Debug)]
pub(crate) struct Records {
    store: Store,
    metrics: Arc<Metrics>,
}

impl Records {
    pub(crate) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    /// Reads once a minute, for ever. If a read fails, the metrics keep their values.
    pub(crate) async fn keep_current(&self, snapshots: &Snapshots) {
        loop {
            let version = snapshots.current().and_then(|held| held.version());
            match background::contained(self.read(version)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the records of jobs cannot be read; metrics of them stay as they are");
                }
                // The thread also keeps views current, so a panic must not end it.
                Err(panicked) => {
                    tracing::error!(%panicked, "reading the records of jobs has failed");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn read(&self, version: Option<i64>) -> Result<(), StoreError> {
        for job in Job::ALL {
            let runs = self.store.runs(Some(job.name()), MAX_RUNS).await?;
            self.metrics.set_job(job.name(), figures(&runs));
        }
        let verdict = match version {
            Some(version) => self.store.verdict(version).await?,
            None => None,
        };
        self.metrics.set_quality(quality(verdict));
        Ok(())
    }
}

/// Figures of `runs`, which are ordered latest first.
fn figures(runs: &[RunRecord]) -> JobFigures {
    let latest = runs.iter().find(|run| run.state != RunState::Skipped);
    let success = runs.iter().find(|run| run.state == RunState::Succeeded);
    let success = success.and_then(|run| {
        let finished_at_us = run.finished_at_us?;
        Some(Success {
            at_s: finished_at_us as f64 / 1e6,
            took_s: (finished_at_us - run.started_at_us) as f64 / 1e6,
        })
    });
    JobFigures {
        state: latest.map(|run| run.state),
        success,
    }
}

/// A verdict of another version of twotower may not be readable; then there are no figures.
fn quality(verdict: Option<Value>) -> BTreeMap<&'static str, f64> {
    let verdict = verdict.and_then(|verdict| serde_json::from_value::<Verdict>(verdict).ok());
    let checks = verdict.map(|verdict| verdict.checks).unwrap_or_default();
    let measured = QUALITY.into_iter().filter_map(|name| {
        let check = checks.iter().find(|check| check.name == name)?;
        check.measured.is_finite().then_some((name, check.measured))
    });
    measured.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(state: RunState, finished_at_us: Option<i64>) -> RunRecord {
        RunRecord {
            id: 1,
            job: "update".into(),
            state,
            due_at_us: None,
            started_at_us: 1_000_000,
            finished_at_us,
            host: "a".into(),
            pid: 1,
            attempts: 1,
            exit_code: None,
            model_version: None,
            message: None,
        }
    }

    #[test]
    fn a_run_that_was_left_to_another_says_nothing() {
        let runs = [
            run(RunState::Skipped, Some(9_000_000)),
            run(RunState::Failed, Some(8_000_000)),
            run(RunState::Succeeded, Some(3_500_000)),
        ];
        let success = Success {
            at_s: 3.5,
            took_s: 2.5,
        };
        let expected = JobFigures {
            state: Some(RunState::Failed),
            success: Some(success),
        };
        assert_eq!(figures(&runs), expected);
        assert_eq!(figures(&[]).state, None);
    }

    #[test]
    fn quality_is_what_the_gate_measured() {
        let check = |name: &str, measured: f64| json!({"name": name, "passed": true, "measured": measured, "bound": 0.65, "words": ""});
        let verdict = json!({"checks": [check("auc", 0.81), check("drift", 0.1)]});
        assert_eq!(quality(Some(verdict)), BTreeMap::from([("auc", 0.81)]));
        assert_eq!(quality(Some(json!("another"))), BTreeMap::new());
        assert_eq!(quality(None), BTreeMap::new());
    }
}
