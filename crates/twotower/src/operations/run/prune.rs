//! Pruning after other work, without hiding how that ended.

use super::Outcome;
use super::error::RunError;
use super::steps::{Steps, Waiting};
use super::update::is_held;

/// Runs `twotower prune`, unless another process publishes: then the next run does. If pruning
/// fails, a run that was successful fails with it; one that had failed keeps its own error.
pub(super) async fn prune_after(
    steps: &mut Steps<'_>,
    outcome: Result<Outcome, RunError>,
) -> Result<Outcome, RunError> {
    let exit_code = steps.exit_code;
    match steps.step(&["prune"], Waiting::Attempts).await {
        Ok(pruned) if is_held(&pruned) => tracing::info!(
            "another process publishes: what is no longer needed is left to the next run"
        ),
        Ok(_) => {}
        Err(error) if outcome.is_ok() => return Err(error),
        Err(error) => tracing::error!("{error}"),
    }
    steps.exit_code = exit_code;
    outcome
}
