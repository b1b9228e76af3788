use super::{EpochLog, best_validation};
use crate::progress::Progress;
use std::time::Instant;
use twotower_core::train::{self, EpochRecord, Trained};

/// Shows the progress of training, and collects its log.
pub(super) struct Watch {
    title: &'static str,
    epochs: usize,
    progress: Option<Progress>,
    validation: String,
    epoch_started: Instant,
    /// Number of epochs done by the run that was interrupted, and of examples of the next one.
    before: (usize, usize),
    log: Vec<EpochLog>,
}

impl Watch {
    /// `done`: epochs of a run that was interrupted after this number of `examples` of the next
    /// epoch.
    pub(super) fn new(
        title: &'static str,
        epochs: usize,
        done: &[EpochRecord],
        examples: usize,
    ) -> Self {
        Self {
            title,
            epochs,
            progress: None,
            validation: String::new(),
            epoch_started: Instant::now(),
            before: (done.len(), examples),
            log: done
                .iter()
                .map(|record| log_of(record, None, None))
                .collect(),
        }
    }

    pub(super) fn see(&mut self, event: &train::Progress) {
        match *event {
            train::Progress::Step {
                epoch,
                examples,
                of,
                loss,
            } => {
                let (epochs_before, examples_before) = self.before;
                let before = epochs_before * of + examples_before;
                let progress = self.progress.get_or_insert_with(|| {
                    Progress::start(self.title, (of * self.epochs) as u64).resumed(before as u64)
                });
                let done = ((epoch - 1) * of + examples) as u64;
                progress.set(
                    done,
                    &format!(
                        "epoch {epoch}/{} loss {loss:.4}{}",
                        self.epochs, self.validation
                    ),
                );
            }
            train::Progress::Epoch(ref record) => self.epoch(record),
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        let seconds = self.epoch_started.elapsed().as_secs_f64();
        self.epoch_started = Instant::now();
        let (epochs_before, examples_before) = self.before;
        let was_cut_off = record.epoch == epochs_before + 1 && examples_before > 0;
        let here = record.examples - if was_cut_off { examples_before } else { 0 };
        let rate = (here > 0).then(|| here as f64 / seconds.max(1e-9));
        if let Some(score) = record.validation {
            self.validation = format!(" NDCG@10 {:.4}", score.ndcg_at_10);
            if let Some(progress) = &self.progress {
                let rate = rate.map_or(String::new(), |rate| format!(", {rate:.0} examples/s"));
                progress.line(&format!(
                    "epoch {}: loss {:.4}, validation NDCG@10 {:.4}{rate}",
                    record.epoch, record.loss, score.ndcg_at_10,
                ));
            }
        }
        let whole = (!was_cut_off).then_some(seconds);
        self.log.push(log_of(record, whole, rate));
    }

    pub(super) fn finish(self, trained: &Trained) -> Vec<EpochLog> {
        if let Some(progress) = self.progress {
            progress.finish(&ending(trained));
        }
        self.log
    }
}

/// The last line of the progress. It names a best epoch only if one scored above 0 on validation.
pub(super) fn ending(trained: &Trained) -> String {
    let selection = trained.model.hyperparameters.selection;
    let epochs = format!("{} epochs", trained.epochs.len());
    match best_validation(trained) {
        Some(score) if selection.of(&score) > 0.0 => {
            format!("{epochs}, the best is {}", trained.best_epoch)
        }
        _ => epochs,
    }
}

fn log_of(
    record: &EpochRecord,
    seconds: Option<f64>,
    examples_per_second: Option<f64>,
) -> EpochLog {
    let validation = record.validation.map(|score| {
        [
            ("ndcg_at_10", score.ndcg_at_10),
            ("recall_at_20", score.recall_at_20),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    });
    EpochLog {
        epoch: record.epoch,
        loss: record.loss,
        seconds,
        examples_per_second,
        validation: validation.into_iter().flatten().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn record(epoch: usize) -> EpochRecord {
        EpochRecord {
            epoch,
            loss: 1.0,
            examples: 1_000,
            validation: None,
        }
    }

    /// Seconds and rates of epochs two and three of a run that was interrupted after this number of
    /// examples of the second.
    fn after_a_cut(examples: usize) -> [(bool, Option<f64>); 2] {
        let mut watch = Watch::new("training", 3, &[record(1)], examples);
        for epoch in [2, 3] {
            // The epoch took a minute in this process.
            let minute = Duration::from_mins(1);
            watch.epoch_started = watch.epoch_started.checked_sub(minute).unwrap();
            watch.see(&train::Progress::Epoch(record(epoch)));
        }
        assert_eq!(watch.log[0].examples_per_second, None);
        [1, 2].map(|n| {
            let log = &watch.log[n];
            (
                log.seconds.is_some(),
                log.examples_per_second.map(f64::round),
            )
        })
    }

    #[test]
    fn an_epoch_that_was_cut_off_counts_what_was_learned_since() {
        let whole = (true, Some(17.0));
        assert_eq!(after_a_cut(0), [whole, whole]);
        assert_eq!(after_a_cut(400), [(false, Some(10.0)), whole]);
        assert_eq!(after_a_cut(1_000), [(false, None), whole]);
    }
}
