//! Update: the newest model of the storage, if that is wanted, then what has changed into the database.

use super::Outcome;
use super::error::RunError;
use super::steps::{Steps, Waiting};
use crate::config::Config;

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
    let updated = steps.step(&["update"], Waiting::Attempts).await?;
    if updated["held_by"].is_object() {
        return Ok(Outcome::Skipped(held_by(&updated)));
    }
    steps.model_version = updated["version"].as_i64();
    fetched?;
    Ok(Outcome::Done)
}

/// Who publishes.
fn held_by(updated: &serde_json::Value) -> String {
    let holder = &updated["held_by"];
    format!(
        "process {} on {} publishes",
        holder["pid"],
        holder["host"].as_str().unwrap_or("another machine")
    )
}
