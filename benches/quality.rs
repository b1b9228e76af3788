//! Ranking quality on the public data sets, by the protocol of docs/training.md.
//!
//!     cargo bench -p twotower-core --bench quality -- [movielens|gowalla|gowalla-latest] [seeds=N] [threads=N] [hyperparameter=value …]
//!
//! Chooses the number of epochs on validation, fits on training and validation, reports test once for each seed.

#[path = "support/public_data.rs"]
mod public_data;

use public_data::Cut;
use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;
use twotower_core::baseline::Popularity;
use twotower_core::embedding::Embeddings;
use twotower_core::evaluate::{Metric, evaluate};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::metric::Bootstrap;
use twotower_core::model::TwoTower;
use twotower_core::split::Phase;
use twotower_core::train::{Goal, Progress, Trained, TrainingData, train};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let (name, settings) = match arguments.split_first() {
        Some((name, settings)) => (name.as_str(), settings),
        None => ("movielens", &[][..]),
    };
    let cut = match name {
        "movielens" => public_data::movielens()?,
        "gowalla" => public_data::gowalla()?,
        "gowalla-latest" => public_data::gowalla_latest()?,
        other => {
            return Err(
                format!("no data set `{other}`: movielens, gowalla or gowalla-latest").into(),
            );
        }
    };
    let (mut seeds, mut threads, mut test) = (1u64, 2usize, true);
    let mut hyper = serde_json::to_value(Hyperparameters::default())?;
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("`{setting}` is not key=value"))?;
        match key {
            "seeds" => seeds = value.parse()?,
            "threads" => threads = value.parse()?,
            "test" => test = value.parse()?,
            _ => hyper[key] = serde_json::from_str(value).unwrap_or_else(|_| value.into()),
        }
    }
    let hyper: Hyperparameters = serde_json::from_value(hyper)?;
    hyper.validate()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let mut rows = Vec::new();
    for seed in 0..seeds {
        let hyper = Hyperparameters {
            seed: hyper.seed + seed,
            ..hyper.clone()
        };
        rows.extend(pool.install(|| one_seed(&cut, &hyper, test))?);
    }
    if rows.len() > 1 {
        let n = rows.len() as f64;
        for (position, metric) in Metric::ALL.iter().enumerate() {
            let mean = rows.iter().map(|row| row[position]).sum::<f64>() / n;
            let variance = rows
                .iter()
                .map(|row| (row[position] - mean).powi(2))
                .sum::<f64>()
                / (n - 1.0);
            println!(
                "{:<8} {mean:.4} ± {:.4} over {n} seeds",
                metric.label(),
                variance.sqrt()
            );
        }
    }
    Ok(())
}

/// Validation, refit and test with one seed; the test metrics in the order of [`Metric::ALL`].
fn one_seed(
    cut: &Cut,
    hyper: &Hyperparameters,
    test: bool,
) -> Result<Option<Vec<f64>>, Box<dyn Error + Send + Sync>> {
    let held_out = cut.split.held_out_users(Phase::Validation);
    let chosen = fit(cut, Phase::Validation, hyper, Goal::Best(&held_out))?;
    let best = &chosen.epochs[chosen.best_epoch - 1];
    println!(
        "seed {} best epoch {} validation {:?}",
        hyper.seed, chosen.best_epoch, best.validation
    );
    if !test {
        return Ok(None);
    }
    let refit = fit(cut, Phase::Test, hyper, Goal::Epochs(chosen.best_epoch))?;
    let model = refit.model;
    let videos: Embeddings = model.embed_videos(cut.dataset.catalogue.videos())?;
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &videos,
    };
    let popularity = Popularity::fit(videos.len(), &cut.split.seen(Phase::Test));
    let result = evaluate(
        &towers,
        &popularity,
        &cut.split.held_out_users(Phase::Test),
        &Bootstrap::default(),
    )?;
    let row: Vec<f64> = Metric::ALL
        .iter()
        .map(|metric| {
            result
                .users
                .iter()
                .map(|user| user.metric(*metric))
                .sum::<f64>()
                / result.users.len() as f64
        })
        .collect();
    let cells: Vec<String> = Metric::ALL
        .iter()
        .zip(&row)
        .map(|(metric, mean)| format!("{} {mean:.4}", metric.label()))
        .collect();
    println!("seed {} test {}", hyper.seed, cells.join("  "));
    Ok(Some(row))
}

fn fit(
    cut: &Cut,
    phase: Phase,
    hyper: &Hyperparameters,
    goal: Goal<'_>,
) -> Result<Trained, Box<dyn Error + Send + Sync>> {
    let (likes, skips) = (cut.split.seen(phase), cut.split.seen_skips(phase));
    let data = TrainingData {
        catalogue: &cut.dataset.catalogue,
        users: cut.dataset.users,
        likes: &likes,
        skips: &skips,
    };
    let mut started = Instant::now();
    Ok(train(data, hyper, goal, &mut |progress| {
        if let Progress::Epoch(record) = progress {
            println!(
                "  epoch {} loss {:.4} {:?} {:.1} µs/example",
                record.epoch,
                record.loss,
                record.validation,
                started.elapsed().as_secs_f64() * 1e6 / record.examples as f64
            );
            started = Instant::now();
        }
        ControlFlow::Continue(())
    })?)
}
