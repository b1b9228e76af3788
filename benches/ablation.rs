//! The effect of each part of the model on `MovieLens`-100K: the defaults, and the defaults with
//! one change.
//!
//!     cargo bench -p twotower-core --bench ablation -- [seeds=N] [threads=N] [only=WORD]
//!
//! Each row is the mean over seeds of test metrics by the protocol of docs/training.md, with epochs
//! chosen on validation each time, and the standard deviation of NDCG@10 between seeds. A second
//! table holds out every tenth video altogether (see `cold`).

#[path = "support/cold.rs"]
mod cold;
#[path = "support/protocol.rs"]
mod protocol;
#[path = "support/public_data.rs"]
mod public_data;

use protocol::Outcome;
use public_data::Cut;
use twotower_core::evaluate::Metric;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::split::{Split, SplitKind};

/// A name, and the change.
type Change = (&'static str, fn(&mut Hyperparameters, &mut Cut));

const CHANGES: [Change; 20] = [
    ("the defaults", |_, _| {}),
    ("no logQ correction", |hyper, _| hyper.log_q = false),
    ("in-batch negatives alone", |hyper, _| hyper.negatives = 0),
    ("in-batch alone, no logQ", |hyper, _| {
        (hyper.negatives, hyper.log_q) = (0, false);
    }),
    ("full softmax", |hyper, _| hyper.negatives = 2048),
    ("skips as hard negatives", |hyper, _| {
        hyper.skip_weight = 4.0;
    }),
    ("skips not used", |_, cut| {
        cut.dataset.skips.clear();
        cut.split = Split::new(&cut.dataset, SplitKind::Llo);
    }),
    ("last like alone", |hyper, _| hyper.decays = vec![0.0]),
    ("plain mean alone", |hyper, _| hyper.decays = vec![1.0]),
    ("one decay, .8", |hyper, _| hyper.decays = vec![0.8]),
    ("last like and mean", |hyper, _| {
        hyper.decays = vec![0.0, 1.0];
    }),
    ("order not used", |hyper, _| {
        (hyper.ordered, hyper.decays) = (false, vec![1.0]);
    }),
    ("any of the next 4 likes", |hyper, _| hyper.lookahead = 4),
    ("no features", |_, cut| strip_features(cut)),
    ("features alone", |hyper, _| hyper.id_dropout = 1.0),
    ("no id dropout", |hyper, _| hyper.id_dropout = 0.0),
    ("no dropout in the user tower", |hyper, _| {
        (hyper.input_dropout, hyper.hidden_dropout) = (0.0, 0.0);
    }),
    ("dimension 32", |hyper, _| hyper.embedding_dim = 32),
    ("dimension 128", |hyper, _| hyper.embedding_dim = 128),
    ("temperature .2", |hyper, _| hyper.temperature = 0.2),
];

/// Changes for the table of videos that training has not seen.
const COLD: [Change; 4] = [
    ("the defaults", |_, _| {}),
    ("id dropout .3", |hyper, _| hyper.id_dropout = 0.3),
    ("features alone", |hyper, _| hyper.id_dropout = 1.0),
    ("ids alone", |_, cut| strip_features(cut)),
];

fn main() -> Outcome<()> {
    let settings: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let (mut seeds, mut threads, mut only) = (3u64, 2usize, String::new());
    let hyper = protocol::hyperparameters(&settings, |key, value| {
        match key {
            "seeds" => seeds = value.parse()?,
            "threads" => threads = value.parse()?,
            "only" => value.clone_into(&mut only),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    println!("MovieLens-100K, leave-last-out, test, {seeds} seeds");
    println!("|                              | NDCG@10       | R@10  | R@50  | AUC   |");
    for (name, change) in CHANGES.into_iter().filter(|(name, _)| name.contains(&only)) {
        let rows = (0..seeds)
            .map(|seed| pool.install(|| ranked(seed, &hyper, change)))
            .collect::<Outcome<Vec<_>>>()?;
        let summary = protocol::summary(&rows);
        let of = |metric: Metric| {
            let position = Metric::ALL.iter().position(|other| *other == metric);
            position.map_or((f64::NAN, f64::NAN), |position| summary[position])
        };
        let (ndcg, deviation) = of(Metric::NdcgAt10);
        println!(
            "| {name:<28} | {ndcg:.4} ± {deviation:.4} | {:.3} | {:.3} | {:.3} |",
            of(Metric::RecallAt10).0,
            of(Metric::RecallAt50).0,
            of(Metric::Auc).0
        );
    }
    println!("videos held out of training, ranked among themselves, {seeds} cuts");
    println!("|                              | AUC           | NDCG@10       |");
    for (name, change) in COLD.into_iter().filter(|(name, _)| name.contains(&only)) {
        let rows = (0..seeds)
            .map(|fold| pool.install(|| cold::measure(fold as u32, changed(0, &hyper, change)?)))
            .collect::<Outcome<Vec<_>>>()?;
        let cells: Vec<String> = protocol::summary(&rows)
            .iter()
            .map(|(mean, deviation)| format!("{mean:.4} ± {deviation:.4}"))
            .collect();
        println!("| {name:<28} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn changed(
    seed: u64,
    hyper: &Hyperparameters,
    change: fn(&mut Hyperparameters, &mut Cut),
) -> Outcome<(Hyperparameters, Cut)> {
    let (mut hyper, mut cut) = (hyper.clone(), public_data::movielens()?);
    hyper.seed += seed;
    change(&mut hyper, &mut cut);
    Ok((hyper, cut))
}

fn ranked(
    seed: u64,
    hyper: &Hyperparameters,
    change: fn(&mut Hyperparameters, &mut Cut),
) -> Outcome<Vec<f64>> {
    let (hyper, cut) = changed(seed, hyper, change)?;
    let epochs = protocol::choose(&cut, &hyper, false)?;
    let model = protocol::refit(&cut, &hyper, epochs, false)?;
    protocol::test(&cut, &model)
}

fn strip_features(cut: &mut Cut) {
    let videos = cut.dataset.catalogue.videos().map(|video| Video {
        id: video.id,
        ..Video::default()
    });
    if let Ok(catalogue) = Catalogue::new(videos) {
        cut.dataset.catalogue = catalogue;
    }
}
