//! The result of a search: for a terminal, for scripts, and as a configuration file.

use super::halving::{self, BASELINE};
use super::space::{SEARCH_SPACE, differences};
use super::state::{State, short};
use super::watch::metric_name;
use crate::config::Config;
use crate::time::rfc3339;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use twotower_core::hyperparameters::Selection;

/// Number of trials in the table for the terminal.
const SHOWN: usize = 10;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TuneReport {
    /// The configuration file that was written.
    pub(crate) output: PathBuf,
    /// Validation metric that trials are compared by.
    pub(crate) metric: Selection,
    /// The best trial.
    pub(crate) best: TrialReport,
    /// Trial 0: the configuration before the search.
    pub(crate) baseline: TrialReport,
    /// All trials, from best to worst.
    pub(crate) trials: Vec<TrialReport>,
    /// What the budget left no time for; `null` if the search is complete.
    pub(crate) left_out: Option<String>,
    /// Wall-clock time used, earlier runs included, seconds.
    pub(crate) seconds: f64,
}

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TrialReport {
    /// Number of the trial; 0 is the configuration before the search.
    pub(crate) trial: usize,
    /// Number of epochs it was trained for.
    pub(crate) epochs: usize,
    /// The best epoch, counted from 1; 0 if there is none.
    pub(crate) best_epoch: usize,
    /// Validation metric of that epoch; `null` if the trial diverged or was left out.
    pub(crate) score: Option<f64>,
    /// Whether training diverged.
    pub(crate) diverged: bool,
    /// Hyperparameters that differ from those of trial 0.
    pub(crate) differs: BTreeMap<&'static str, f64>,
}

impl TuneReport {
    /// `None` if no trial has a score.
    pub(super) fn new(state: &State, output: &Path) -> Option<Self> {
        let scores = state.scores();
        halving::winner(&scores)?;
        let ranking = halving::ranking(&scores).into_iter();
        let trials: Vec<TrialReport> = ranking.map(|trial| trial_report(state, trial)).collect();
        Some(Self {
            output: output.to_owned(),
            metric: state.trials[BASELINE].hyperparameters.selection,
            best: trials[0].clone(),
            baseline: trial_report(state, BASELINE),
            left_out: left_out(state),
            trials,
            seconds: state.used_s,
        })
    }

    /// The text of the configuration file: the tuned `config` with the hyperparameters of the best
    /// trial.
    ///
    /// # Errors
    /// If a number is too large for TOML.
    pub(super) fn to_toml(
        &self,
        state: &State,
        config: &Config,
        at: SystemTime,
    ) -> anyhow::Result<String> {
        let tuned = Config {
            hyperparameters: state.trials[self.best.trial].hyperparameters.clone(),
            ..config.clone()
        };
        let searched = SEARCH_SPACE.map(|dimension| dimension.name);
        let metric = metric_name(self.metric);
        let left_out = self.left_out.as_ref().map(|what| format!("# {what}\n"));
        let date = rfc3339(at);
        Ok(format!(
            "# Written by `twotower tune`: the best of {} trials on validation.\n\
             # {metric} {} (trial {}, epoch {} of {})\n\
             # {metric} {} with the configuration as it was (trial 0, epoch {} of {})\n\
             {}\
             # data: snapshot {}, {} split\n\
             # date: {}\n\n{}",
            self.trials.len(),
            score(&self.best),
            self.best.trial,
            self.best.best_epoch,
            self.best.epochs,
            score(&self.baseline),
            self.baseline.best_epoch,
            self.baseline.epochs,
            left_out.unwrap_or_default(),
            short(&state.snapshot_sha256),
            state.split.name(),
            date.split('T').next().unwrap_or(&date),
            tuned.to_toml(&searched)?
        ))
    }
}

fn trial_report(state: &State, number: usize) -> TrialReport {
    let trial = &state.trials[number];
    let last = trial.results.last();
    TrialReport {
        trial: number,
        epochs: last.map_or(0, |result| result.epochs),
        best_epoch: last.map_or(0, |result| result.best_epoch),
        score: last.and_then(|result| result.score),
        diverged: last.is_some_and(|result| result.score.is_none()),
        differs: differences(
            &trial.hyperparameters,
            &state.trials[BASELINE].hyperparameters,
        ),
    }
}

/// What the budget left no time for, in words.
fn left_out(state: &State) -> Option<String> {
    let rung = state.next()?.rung;
    let scores = state.scores();
    let trials = halving::contenders(&scores, rung)?;
    let left = trials.iter().filter(|&&trial| scores[trial].len() == rung);
    let later = if rung + 1 < state.rungs.len() {
        ", and none to the rungs after it"
    } else {
        ""
    };
    Some(format!(
        "the budget was over before the search was: {} of the {} trials of rung {} of {} were not brought to its {} epochs{later}",
        left.count(),
        trials.len(),
        rung + 1,
        state.rungs.len(),
        state.rungs[rung]
    ))
}

fn score(trial: &TrialReport) -> String {
    match trial.score {
        Some(score) => format!("{score:.4}"),
        None if trial.diverged => "diverged".to_owned(),
        None => "unknown".to_owned(),
    }
}

/// At most this many characters of a row show the differences, so that the table fits into 120
/// columns.
const DIFFERENCES: usize = 83;

/// The differences that fit, and the number of the others.
fn in_short(differs: &BTreeMap<&'static str, f64>) -> String {
    let mut text = String::new();
    for (n, (name, value)) in differs.iter().enumerate() {
        let comma = if n > 0 { ", " } else { "" };
        let next = format!("{comma}{name} {value}");
        let left = differs.len() - n;
        let room = if left > 1 { " and 99 more".len() } else { 0 };
        if text.len() + next.len() + room > DIFFERENCES {
            return format!("{text} and {left} more");
        }
        text.push_str(&next);
    }
    text
}

impl fmt::Display for TuneReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = metric_name(self.metric);
        writeln!(
            formatter,
            "{:>5} {metric:>10} {:>6} {:>10}  differs from trial 0, the configuration as it was",
            "trial", "epochs", "best epoch"
        )?;
        let shown = self.trials.iter().take(SHOWN);
        let baseline = self.trials.iter().skip(SHOWN);
        for trial in shown.chain(baseline.filter(|trial| trial.trial == BASELINE)) {
            writeln!(
                formatter,
                "{:>5} {:>10} {:>6} {:>10}  {}",
                trial.trial,
                score(trial),
                trial.epochs,
                trial.best_epoch,
                in_short(&trial.differs)
            )?;
        }
        if let Some(left_out) = &self.left_out {
            writeln!(
                formatter,
                "{left_out}: `--resume` with a larger `--budget` goes on"
            )?;
        }
        if self.best.trial == BASELINE {
            writeln!(
                formatter,
                "no trial was better than the configuration as it was"
            )?;
        }
        if self.best.trial != BASELINE {
            let output = self.output.display();
            writeln!(
                formatter,
                "{output} has all that the best trial is made of, and --json all of every trial"
            )?;
        }
        write!(
            formatter,
            "train with it: twotower train --config {}",
            self.output.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_fits_into_its_column() {
        assert_eq!(in_short(&BTreeMap::new()), "");
        let two = BTreeMap::from([("batch_size", 256.0), ("temperature", 0.1184)]);
        assert_eq!(in_short(&two), "batch_size 256, temperature 0.1184");
        let names = [
            "batch_size",
            "hidden_dropout",
            "id_dropout",
            "input_dropout",
            "item_hidden",
            "learning_rate",
            "negatives",
            "table_learning_rate",
            "temperature",
            "user_hidden",
        ];
        let many: BTreeMap<_, _> = names.map(|name| (name, 0.012_34)).into();
        let said = in_short(&many);
        assert!(said.len() <= DIFFERENCES, "{said}");
        assert!(
            said.starts_with("batch_size 0.01234, ") && said.ends_with(" and 7 more"),
            "{said}"
        );
    }
}
