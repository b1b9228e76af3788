//! `twotower models …` and `twotower rollback`.

mod rows;

use super::args::GlobalArgs;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::{Decision, ListedModel, Switched, models, operator};
use crate::time::minute;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use twotower_core::gate::Verdict;
use twotower_store::{ModelDetails, Store};

/// Arguments of `twotower models`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

/// What to do with the registry.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List all versions: state, times, metrics, number of vectors
    List,
    /// Show everything registered about one version: snapshot, hyperparameters, metrics, who made it active, when and why
    Show {
        /// Version
        version: i64,
    },
    /// Make a complete version active, if its vectors are present and valid
    Promote(PromoteArgs),
    /// Go back to the previously active version
    Rollback(RollbackArgs),
    /// Retire a version, so that it is not made active; never the active one
    Retire {
        /// Version
        version: i64,
    },
}

impl ModelsCommand {
    /// Name in the line on success.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::List => "models list",
            Self::Show { .. } => "models show",
            Self::Promote(_) => "models promote",
            Self::Rollback(_) => "models rollback",
            Self::Retire { .. } => "models retire",
        }
    }
}

/// Arguments of `twotower models promote`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PromoteArgs {
    /// Version
    pub(crate) version: i64,

    /// Promote even if the quality gate has refused the version; the history records it
    #[arg(long)]
    pub(crate) force: bool,

    /// Do not promote if that would end a running experiment
    #[arg(long)]
    pub(crate) keep_experiment: bool,

    #[command(flatten)]
    pub(crate) decision: DecisionArgs,
}

/// Arguments of `twotower rollback`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    /// Go back to this version instead of the previously active one
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<i64>,

    #[command(flatten)]
    pub(crate) decision: DecisionArgs,
}

/// What is recorded with a switch.
#[derive(Debug, Clone, Args)]
pub(crate) struct DecisionArgs {
    /// Reason, for the history of activations
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub(crate) reason: String,

    /// Name of the person, for the history of activations [default: the user of the operating system]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

impl DecisionArgs {
    fn decision(&self) -> Decision {
        Decision {
            force: false,
            keep_experiment: false,
            by: self.by.clone().unwrap_or_else(operator),
            reason: self.reason.clone(),
        }
    }
}

/// Runs one of them.
pub(super) async fn run(
    command: ModelsCommand,
    store: &Store,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    match command {
        ModelsCommand::List => {
            let models = models::list(store, &config.erase).await?;
            print(global.json, &models, &table(&models))
        }
        ModelsCommand::Show { version } => {
            let details = store.model_details(version).await?;
            let retire_by = models::retire_by(store, config.erase.retire_days).await?;
            let shown = Shown {
                retire_by_us: retire_by.get(&version).copied(),
                details,
            };
            print(global.json, &shown, &describe(&shown))
        }
        ModelsCommand::Promote(args) => {
            let version = args.version;
            let decision = Decision {
                force: args.force,
                keep_experiment: args.keep_experiment,
                ..args.decision.decision()
            };
            let switched =
                models::promote(store, version, &decision, &config.update, interrupt).await?;
            print(global.json, &switched, &outcome(&switched))
        }
        ModelsCommand::Rollback(args) => rollback(args, store, config, global, interrupt).await,
        ModelsCommand::Retire { version } => {
            let state = models::retire(store, version, &config.update).await?;
            let text = format!("version {version} is {state}");
            print(
                global.json,
                &json!({ "version": version, "state": state }),
                &text,
            )
        }
    }
}

/// `twotower rollback` and `twotower models rollback`.
pub(super) async fn rollback(
    args: RollbackArgs,
    store: &Store,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let decision = args.decision.decision();
    let switched = models::rollback(store, args.to, &decision, &config.update, interrupt).await?;
    print(global.json, &switched, &outcome(&switched))
}

fn outcome(switched: &Switched) -> String {
    let Switched {
        version,
        previous_version,
        ended_experiment,
        held_back_by,
    } = *switched;
    if let Some(id) = held_back_by {
        return format!(
            "readers still see version {version}: another one would end experiment {id}"
        );
    }
    let switched = match previous_version {
        Some(previous) if previous == version => format!("version {version} is active already"),
        Some(previous) => format!("readers were switched from version {previous} to {version}"),
        None => format!("readers were switched to version {version}"),
    };
    match ended_experiment {
        Some(id) => format!("{switched}\nexperiment {id} is over"),
        None => switched,
    }
}

fn table(models: &[ListedModel]) -> String {
    let head = [
        "version",
        "state",
        "dim",
        "created",
        "activated",
        "data until",
        "NDCG@10 test",
        "validation",
        "videos",
        "users",
        "retire by",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(models.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 11] = std::array::from_fn(width);
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        line.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(model: &ListedModel) -> [String; 11] {
    let record = &model.record;
    let validation = record.metrics.pointer("/validation/ndcg_at_10");
    let figure = |ndcg: Option<f64>| ndcg.map_or("-".into(), |ndcg| format!("{ndcg:.4}"));
    [
        record.version.to_string(),
        match record.pruned_at_us {
            Some(_) => format!("{}, pruned", record.state),
            None => record.state.to_string(),
        },
        record.embedding_dim.to_string(),
        minute(record.created_at_us),
        minute_or_dash(record.activated_at_us),
        minute_or_dash(record.cut_off_us),
        figure(model.test_ndcg_at_10),
        figure(validation.and_then(serde_json::Value::as_f64)),
        model.video_vectors.to_string(),
        model.user_vectors.to_string(),
        minute_or_dash(model.retire_by_us),
    ]
}

/// The record of a version, and the time by which it must be replaced.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    details: ModelDetails,
    retire_by_us: Option<i64>,
}

fn describe(shown: &Shown) -> String {
    let details = &shown.details;
    let record = &details.record;
    let mut lines = vec![
        format!("version          {}", record.version),
        format!("state            {}", record.state),
        format!("embedding_dim    {}", record.embedding_dim),
        format!("created          {}", minute(record.created_at_us)),
        format!(
            "activated        {}",
            minute_or_dash(record.activated_at_us)
        ),
        format!("retired          {}", minute_or_dash(details.retired_at_us)),
        format!("pruned           {}", minute_or_dash(record.pruned_at_us)),
        format!("to be retired by {}", minute_or_dash(shown.retire_by_us)),
        format!("data until       {}", minute_or_dash(record.cut_off_us)),
        format!("snapshot         {}", details.snapshot_sha256),
        format!("manifest         {}", record.manifest_sha256),
        format!(
            "reason           {}",
            details.reason.as_deref().unwrap_or("-")
        ),
    ];
    lines.extend(rows::table("metrics", &record.metrics, rows::figure));
    let hyperparameters = &details.hyperparameters;
    lines.extend(rows::table(
        "hyperparameters",
        hyperparameters,
        rows::setting,
    ));
    if let Some(verdict) = &details.verdict {
        // A verdict that cannot be read counts as a refusal; it is shown as it is, for whoever
        // decides in spite of it.
        let text = match serde_json::from_value::<Verdict>(verdict.clone()) {
            Ok(readable) => readable.to_string(),
            Err(_) => verdict.to_string(),
        };
        lines.push(format!("quality gate     {text}"));
    }
    lines.extend(details.activations.iter().map(|activation| {
        let before = activation
            .previous_version
            .map_or(String::new(), |version| format!(" after version {version}"));
        let forced = if activation.forced { ", forced" } else { "" };
        format!(
            "active since     {}{before}, {}{forced}, by {}: {}",
            minute(activation.at_us),
            activation.kind.as_str(),
            activation.by,
            activation.reason
        )
    }));
    lines.join("\n")
}

fn minute_or_dash(at_us: Option<i64>) -> String {
    at_us.map_or("-".into(), minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::models::test_ndcg_at_10;
    use twotower_store::{ModelRecord, ModelState};

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let record = ModelRecord {
            version: 12,
            state: ModelState::Candidate,
            embedding_dim: 64,
            created_at_us: 1_767_225_660_000_000,
            activated_at_us: None,
            cut_off_us: Some(1_767_225_600_000_000),
            metrics: json!({
                "validation": { "ndcg_at_10": 0.09125 },
                "cohorts": [{ "name": "all", "ndcg_at_10": 0.0609 }],
            }),
            pruned_at_us: None,
            erasures_seen: None,
            manifest_sha256: String::new(),
        };
        let listed = ListedModel {
            test_ndcg_at_10: test_ndcg_at_10(&record.metrics),
            record,
            video_vectors: 1_000_000,
            user_vectors: 0,
            retire_by_us: None,
        };
        let expected = "\
version  state      dim  created           activated  data until        NDCG@10 test  validation  videos   users  retire by
12       candidate  64   2026-01-01 00:01  -          2026-01-01 00:00  0.0609        0.0912      1000000  0      -";
        assert_eq!(table(&[listed]), expected);
    }
}
