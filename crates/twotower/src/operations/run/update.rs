//! The update job: fetches the newest model of the storage, if configured, then writes changes to
//! the database.

use super::Outcome;
use super::error::RunError;
use super::steps::{Steps, Waiting};
use crate::config::Config;
use serde_json::Value;
use std::time::Duration;

pub(super) async fn update(steps: &mut Steps<'_>, config: &Config) -> Result<Outcome, RunError> {
    let fetched = if config.run.fetch {
        steps.step(&["fetch"], Waiting::Attempts).await.map(|_| ())
    } else {
        Ok(())
    };
    if let Err(RunError::Interrupted) = fetched {
        return Err(RunError::Interrupted);
    }
    // Even without a new model, the likes of today must be taken into account.
    let mut updated = steps.step(&["update"], Waiting::Attempts).await?;
    if is_held(&updated) {
        // A killed publisher, perhaps of the previous run, seems active until its lease expires.
        let lease = Duration::from_secs(config.update.lease_seconds.into());
        tracing::info!(
            "{}: whether it is alive shows within {lease:?}",
            holder(&updated)
        );
        steps.pause(lease + Duration::from_secs(1)).await?;
        updated = steps.step(&["update"], Waiting::Attempts).await?;
    }
    if is_held(&updated) {
        let message = holder(&updated);
        tracing::info!("update is skipped: {message}");
        return Ok(Outcome::Skipped(message));
    }
    steps.model_version = updated["version"].as_i64();
    fetched?;
    Ok(Outcome::Done)
}

/// Whether nothing was done because another process publishes.
pub(super) fn is_held(result: &Value) -> bool {
    result["held_by"].is_object()
}

fn holder(result: &Value) -> String {
    let holder = &result["held_by"];
    format!(
        "process {} on {} publishes",
        holder["pid"],
        holder["host"].as_str().unwrap_or("another machine")
    )
}
