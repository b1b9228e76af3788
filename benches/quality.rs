//! Ranking quality on the public data sets, by the protocol of docs/training.md.
//!
//!     cargo bench -p twotower-core --bench quality -- [movielens|gowalla|gowalla-latest] [seeds=N] [threads=N] [hyperparameter=value …]
//!
//! Chooses the number of epochs on validation, fits on training and validation, and reports test
//! metrics once per seed.

#[path = "support/gowalla.rs"]
mod gowalla;
#[path = "support/protocol.rs"]
mod protocol;
#[path = "support/public_data.rs"]
mod public_data;

use protocol::Outcome;
use public_data::Cut;
use twotower_core::evaluate::Metric;
use twotower_core::hyperparameters::Hyperparameters;

fn main() -> Outcome<()> {
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
        "gowalla" => gowalla::official()?,
        "gowalla-latest" => gowalla::latest()?,
        other => {
            return Err(
                format!("no data set `{other}`: movielens, gowalla or gowalla-latest").into(),
            );
        }
    };
    let (mut seeds, mut threads, mut test) = (1u64, 2usize, true);
    let hyper = protocol::hyperparameters(settings, |key, value| {
        match key {
            "seeds" => seeds = value.parse()?,
            "threads" => threads = value.parse()?,
            "test" => test = value.parse()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
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
        for (metric, (mean, deviation)) in Metric::ALL.iter().zip(protocol::summary(&rows)) {
            let label = metric.label();
            println!(
                "{label:<8} {mean:.4} ± {deviation:.4} over {} seeds",
                rows.len()
            );
        }
    }
    Ok(())
}

/// Validation, refit and test with one seed. Returns the test metrics in the order of
/// [`Metric::ALL`].
fn one_seed(cut: &Cut, hyper: &Hyperparameters, test: bool) -> Outcome<Option<Vec<f64>>> {
    let epochs = protocol::choose(cut, hyper, true)?;
    if !test {
        return Ok(None);
    }
    let model = protocol::refit(cut, hyper, epochs, true)?;
    let row = protocol::test(cut, &model)?;
    let cells: Vec<String> = Metric::ALL
        .iter()
        .zip(&row)
        .map(|(metric, mean)| format!("{} {mean:.4}", metric.label()))
        .collect();
    println!("seed {} test {}", hyper.seed, cells.join("  "));
    Ok(Some(row))
}
