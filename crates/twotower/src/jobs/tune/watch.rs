use super::halving::{Step, quota};
use super::state::{RungResult, State};
use crate::progress::Progress;
use twotower_core::hyperparameters::Selection;
use twotower_core::train;

/// Shows the progress of a search.
pub(super) struct Watch {
    metric: &'static str,
    trials: usize,
    rungs: Vec<usize>,
    /// At most this many epochs are left for this run of the search.
    planned: usize,
    /// Number of epochs of the completed steps.
    done: usize,
    progress: Option<Progress>,
    best: String,
}

impl Watch {
    pub(super) fn new(state: &State, selection: Selection) -> Self {
        let planned = (0..state.rungs.len())
            .map(|rung| left(state, rung) * epochs_of(&state.rungs, rung))
            .sum();
        Self {
            metric: metric_name(selection),
            trials: state.trials.len(),
            rungs: state.rungs.clone(),
            planned,
            done: 0,
            progress: None,
            best: String::new(),
        }
    }

    pub(super) fn see(&mut self, Step { rung, trial }: Step, event: &train::Progress) {
        let train::Progress::Step {
            epoch,
            examples,
            of,
            loss,
        } = *event
        else {
            return;
        };
        let before = self.rungs[rung] - epochs_of(&self.rungs, rung);
        let progress = self
            .progress
            .get_or_insert_with(|| Progress::start("tune", (of * self.planned) as u64));
        let epochs = self.done + (epoch - 1).saturating_sub(before);
        let message = format!(
            "rung {}/{} trial {trial}/{} epoch {epoch}/{} loss {loss:.4}{}",
            rung + 1,
            self.rungs.len(),
            self.trials - 1,
            self.rungs[rung],
            self.best
        );
        progress.set((epochs * of + examples) as u64, &message);
    }

    /// Called when a trial has reached its rung.
    pub(super) fn result(&mut self, step: Step, result: &RungResult, best: Option<(usize, f64)>) {
        self.done += epochs_of(&self.rungs, step.rung);
        let metric = self.metric;
        self.best = best.map_or_else(String::new, |(trial, score)| {
            format!(", best {metric} {score:.4} of trial {trial}")
        });
        let score = result.score.map_or_else(
            || "diverged".to_owned(),
            |score| format!("{metric} {score:.4}"),
        );
        self.line(&format!(
            "rung {} of {}, trial {}, {} epochs: {score}{}",
            step.rung + 1,
            self.rungs.len(),
            step.trial,
            result.epochs,
            self.best
        ));
    }

    fn line(&self, line: &str) {
        if let Some(progress) = &self.progress {
            progress.line(line);
        } else {
            tracing::info!("{line}");
        }
    }

    pub(super) fn finish(self, line: &str) {
        if let Some(progress) = self.progress {
            progress.finish(line);
        } else {
            tracing::info!("tune: {line}");
        }
    }
}

/// Name of the metric, as in tables.
pub(super) fn metric_name(selection: Selection) -> &'static str {
    match selection {
        Selection::NdcgAt10 => "NDCG@10",
        Selection::RecallAt20 => "Recall@20",
    }
}

/// Number of epochs between the rung before and this one.
fn epochs_of(rungs: &[usize], rung: usize) -> usize {
    rungs[rung] - rung.checked_sub(1).map_or(0, |before| rungs[before])
}

/// At most this many trials still have to reach `rung`.
fn left(state: &State, rung: usize) -> usize {
    let trials = state.trials.len();
    let done = state.trials.iter().filter(|t| t.results.len() > rung);
    let chosen = quota(trials, rung);
    // The baseline may advance in addition to the best trials.
    let beside = usize::from(rung > 0);
    (chosen + beside).min(trials).saturating_sub(done.count())
}
