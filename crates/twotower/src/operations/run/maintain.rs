//! The maintenance job: `twotower maintain`, then `twotower prune`, so that retention periods are
//! kept on days without a training. Outside of the window it does nothing, unless it is to work at
//! once, and is recorded as skipped.

use super::Outcome;
use super::error::RunError;
use super::prune::prune_after;
use super::steps::{Steps, Waiting};
use crate::config::Config;
use crate::exit_code::FAILED;
use serde_json::Value;

pub(super) async fn maintain(
    steps: &mut Steps<'_>,
    config: &Config,
    now: bool,
) -> Result<Outcome, RunError> {
    let words: &[&str] = if now {
        &["maintain", "--now"]
    } else {
        &["maintain"]
    };
    let maintained = steps.step(words, Waiting::Attempts).await;
    let outcome = maintained.and_then(|maintained| outcome(&maintained, config));
    match outcome {
        // A table that cannot be maintained does not stop pruning.
        Ok(Outcome::Done)
        | Err(RunError::Failed {
            code: Some(FAILED), ..
        }) => prune_after(steps, outcome).await,
        outcome => outcome,
    }
}

fn outcome(maintained: &Value, config: &Config) -> Result<Outcome, RunError> {
    match maintained["in_window"].as_bool() {
        Some(true) => Ok(Outcome::Done),
        Some(false) => {
            let message = format!(
                "outside of the window {} (`window` of section [maintenance]) in time zone {} (`time_zone` of section [schedule]) nothing is done; `--now` does it at any time",
                config.maintenance.window, config.schedule.time_zone
            );
            tracing::warn!("maintain is skipped: {message}");
            Ok(Outcome::Skipped(message))
        }
        None => Err(RunError::Result {
            step: "maintain".into(),
            missing: "in_window",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_done_is_no_success() {
        let of = |maintained: Value| outcome(&maintained, &Config::default());
        assert!(matches!(
            of(json!({ "in_window": true })),
            Ok(Outcome::Done)
        ));
        let Ok(Outcome::Skipped(message)) = of(json!({ "in_window": false })) else {
            panic!("taken for done")
        };
        for said in ["03:30-06:00", "UTC", "time_zone", "[schedule]", "--now"] {
            assert!(message.contains(said), "{message}");
        }
        assert!(matches!(of(json!({})), Err(RunError::Result { .. })));
    }
}
