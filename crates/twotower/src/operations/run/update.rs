//! Update: the newest model of the storage, if that is wanted, then what has changed into the database.

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
    // Without a new model, too, what was liked today is to count tomorrow.
    let mut updated = steps.step(&["update"], Waiting::Attempts).await?;
    if is_held(&updated) {
        // A publisher that was killed, by what ended the last run perhaps, seems to be at work until its lease is over.
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

/// Whether nothing was done, since another process publishes.
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
