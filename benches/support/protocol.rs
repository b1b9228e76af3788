//! The protocol of docs/training.md for one configuration: choose epochs on validation, learn
//! everything but test, then look at test once.

use crate::public_data::Cut;
use std::error::Error;
use std::time::Instant;
use twotower_core::baseline::Popularity;
use twotower_core::embedding::Embeddings;
use twotower_core::evaluate::{Metric, evaluate};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::metric::Bootstrap;
use twotower_core::model::{Model, TwoTower};
use twotower_core::split::Phase;
use twotower_core::train::{Goal, Progress, Run, Trained, TrainingData};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Arguments `key=value`; keys that `own` does not take are hyperparameters.
pub(crate) fn hyperparameters(
    settings: &[String],
    mut own: impl FnMut(&str, &str) -> Outcome<bool>,
) -> Outcome<Hyperparameters> {
    let mut hyper = serde_json::to_value(Hyperparameters::default())?;
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("`{setting}` is not key=value"))?;
        if !own(key, value)? {
            hyper[key] = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        }
    }
    let hyper: Hyperparameters = serde_json::from_value(hyper)?;
    hyper.validate()?;
    Ok(hyper)
}

/// The number of epochs that is best on validation.
pub(crate) fn choose(cut: &Cut, hyper: &Hyperparameters, verbose: bool) -> Outcome<usize> {
    let held_out = cut.split.held_out_users(Phase::Validation);
    let chosen = fit_seen(
        cut,
        Phase::Validation,
        hyper,
        Goal::Best(&held_out),
        verbose,
    )?;
    if verbose {
        let best = &chosen.epochs[chosen.best_epoch - 1];
        println!(
            "seed {} best epoch {} validation {:?}",
            hyper.seed, chosen.best_epoch, best.validation
        );
    }
    Ok(chosen.best_epoch)
}

/// The model of training and validation together after `epochs`.
pub(crate) fn refit(
    cut: &Cut,
    hyper: &Hyperparameters,
    epochs: usize,
    verbose: bool,
) -> Outcome<Model> {
    Ok(fit_seen(cut, Phase::Test, hyper, Goal::Epochs(epochs), verbose)?.model)
}

/// The test metrics of `model`, in the order of [`Metric::ALL`].
pub(crate) fn test(cut: &Cut, model: &Model) -> Outcome<Vec<f64>> {
    let videos: Embeddings = model.embed_videos(cut.dataset.catalogue.videos())?;
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &videos,
    };
    let popularity = Popularity::fit(videos.len(), &cut.split.seen(Phase::Test));
    let held_out = cut.split.held_out_users(Phase::Test);
    let result = evaluate(&towers, &popularity, &held_out, &Bootstrap::default())?;
    let users = result.users.len() as f64;
    let mean = |metric: &Metric| {
        let of_users = result.users.iter().map(|user| user.metric(*metric));
        of_users.sum::<f64>() / users
    };
    Ok(Metric::ALL.iter().map(mean).collect())
}

/// Mean and standard deviation of each column.
pub(crate) fn summary(rows: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let n = rows.len() as f64;
    (0..rows.first().map_or(0, Vec::len))
        .map(|column| {
            let values = || rows.iter().map(|row| row[column]);
            let mean = values().sum::<f64>() / n;
            let squares: f64 = values().map(|value| (value - mean).powi(2)).sum();
            (mean, (squares / (n - 1.0).max(1.0)).sqrt())
        })
        .collect()
}

fn fit_seen(
    cut: &Cut,
    phase: Phase,
    hyper: &Hyperparameters,
    goal: Goal<'_>,
    verbose: bool,
) -> Outcome<Trained> {
    let (likes, skips) = (cut.split.seen(phase), cut.split.seen_skips(phase));
    let data = TrainingData::held(&cut.dataset.catalogue, cut.dataset.users, likes, skips);
    fit(data, hyper, goal, verbose)
}

/// Trains on `data`, and prints a line per epoch if `verbose`.
pub(crate) fn fit(
    data: TrainingData<'_>,
    hyper: &Hyperparameters,
    goal: Goal<'_>,
    verbose: bool,
) -> Outcome<Trained> {
    let mut started = Instant::now();
    let mut run = Run::new(data, hyper, goal)?;
    while let Some(progress) = run.advance()? {
        if let (Progress::Epoch(record), true) = (progress, verbose) {
            println!(
                "  epoch {} loss {:.4} {:?} {:.1} µs/example",
                record.epoch,
                record.loss,
                record.validation,
                started.elapsed().as_secs_f64() * 1e6 / record.examples as f64
            );
            started = Instant::now();
        }
    }
    Ok(run.finish())
}
