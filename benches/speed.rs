//! Speed of training on generated data: CPU and wall time per example, and memory.
//!
//!     cargo bench -p twotower-core --bench speed -- [likes=N] [users=N] [videos=N] [steps=N] [batch_size=N,…] [id_only=true] [threads=N,…] [epoch=true]
//!
//! Without `batch_size`, `id_only` or `threads` it measures a table of them; with `epoch`, a whole
//! epoch instead of some steps. benches/python measures the same model in `PyTorch`. CPU time is
//! that of all threads of the process; run it on a quiet machine. The last column is the share of
//! it that the step's matrix products would take at the speed of a product that fits the cache.

#[path = "support/process.rs"]
mod process;

#[path = "support/synthetic.rs"]
mod synthetic;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::num::ParseIntError;
use std::sync::Arc;
use std::time::Instant;
use synthetic::Sizes;
use twotower_core::feature::{Catalogue, NUMERIC_FEATURES};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::kernel::{self, View};
use twotower_core::timeline::{HeldTimelines, Timelines};
use twotower_core::train::{Goal, Progress, Run, TrainingData};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Steps before the measured ones.
const WARM_UP: usize = 20;

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Setting {
    batch_size: usize,
    id_only: bool,
    threads: usize,
}

/// The settings that are measured without arguments.
const TABLE: [Setting; 6] = [
    setting(512, false, 1),
    setting(512, false, 2),
    setting(4096, false, 1),
    setting(4096, false, 2),
    setting(512, true, 1),
    setting(4096, true, 1),
];

const fn setting(batch_size: usize, id_only: bool, threads: usize) -> Setting {
    Setting {
        batch_size,
        id_only,
        threads,
    }
}

fn main() -> Outcome<()> {
    let mut sizes = Sizes {
        likes: 10_000_000,
        users: 200_000,
        videos: 100_000,
        features: true,
    };
    let (mut batch_sizes, mut id_only, mut threads) = (vec![512], false, vec![1]);
    let (mut steps, mut chosen) = (None, false);
    let mut whole_epoch = false;
    for argument in std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
    {
        let (key, value) = argument
            .split_once('=')
            .ok_or_else(|| format!("`{argument}` is not key=value"))?;
        match key {
            "likes" => sizes.likes = value.parse()?,
            "users" => sizes.users = value.parse()?,
            "videos" => sizes.videos = value.parse()?,
            "steps" => steps = Some(value.parse()?),
            "epoch" => whole_epoch = value.parse()?,
            "batch_size" => (batch_sizes, chosen) = (list(value)?, true),
            "id_only" => (id_only, chosen) = (value.parse()?, true),
            "threads" => (threads, chosen) = (list(value)?, true),
            _ => return Err(format!("no setting `{key}`").into()),
        }
    }
    let table = if chosen {
        let each = |&batch_size| {
            threads
                .iter()
                .map(move |&threads| setting(batch_size, id_only, threads))
        };
        batch_sizes.iter().flat_map(each).collect()
    } else {
        TABLE.to_vec()
    };
    let ceiling = ceiling();
    println!(
        "{}, {:.0} GFLOP/s in matrix products",
        process::machine(),
        ceiling / 1e9
    );
    println!(
        "batch  id only  threads  CPU µs/example  wall µs/example  examples/s  peak MB  formula MB  products at the ceiling"
    );
    for id_only in [false, true] {
        let settings = || table.iter().filter(|setting| setting.id_only == id_only);
        if settings().next().is_none() {
            continue;
        }
        let data = Data::generate(Sizes {
            features: !id_only,
            ..sizes
        })?;
        for &setting in settings() {
            let steps = if whole_epoch {
                usize::MAX
            } else {
                steps.unwrap_or(200_000 / setting.batch_size)
            };
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(setting.threads)
                .build()?;
            pool.install(|| measure(&data, setting, steps, ceiling))?;
        }
    }
    Ok(())
}

/// Data to learn from, without the snapshot.
struct Data {
    catalogue: Catalogue,
    timelines: Arc<dyn Timelines>,
    /// Videos of likes drawn at random; they stand for the likes of the largest batch's windows.
    drawn: Vec<u32>,
}

impl Data {
    fn generate(sizes: Sizes) -> Outcome<Self> {
        const DRAWN: usize = 1 << 16;
        let dataset = synthetic::generate(sizes)?;
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let drawn = (0..DRAWN)
            .map(|_| dataset.likes[random.random_range(0..dataset.likes.len())].item)
            .collect();
        let timelines = HeldTimelines::new(dataset.users, dataset.likes, dataset.skips);
        Ok(Self {
            catalogue: dataset.catalogue,
            timelines: Arc::new(timelines),
            drawn,
        })
    }
}

/// Numbers separated by commas.
fn list(value: &str) -> Result<Vec<usize>, ParseIntError> {
    value.split(',').map(str::parse).collect()
}

/// Floating-point operations per second of one thread in a product of the user tower's shape, with
/// everything in the cache.
fn ceiling() -> f64 {
    let (m, k, n) = (128, 386, 128);
    let (a, b, mut c) = (vec![0.5; m * k], vec![0.25; k * n], vec![0.0; m * n]);
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let begun = Instant::now();
        for _ in 0..100 {
            kernel::gemm(1.0, View::rows(&a, k), View::rows(&b, n), 0.0, &mut c);
        }
        best = best.min(begun.elapsed().as_secs_f64() / 100.0);
    }
    (2 * m * k * n) as f64 / best
}

/// Floating-point operations per example in matrix products. A weight costs two forward, two for
/// the gradient of its input and two for its own gradient; so does each number of a candidate's
/// vector.
fn operations(hyper: &Hyperparameters, data: &Data) -> f64 {
    let dim = hyper.embedding_dim;
    let head = |x: usize, h: usize| (x * h + h * dim + x * dim) as f64;
    let user = head((hyper.decays.len() + 1) * dim + 2, hyper.user_hidden);
    let item = head(2 * dim + NUMERIC_FEATURES, hyper.item_hidden);
    // Each distinct video of a batch once.
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut videos: HashSet<u32> = data.drawn.iter().take(hyper.batch_size).copied().collect();
    let any = || random.random_range(0..data.catalogue.len() as u32);
    videos.extend(std::iter::repeat_with(any).take(hyper.negatives));
    let candidates = videos.len() as f64;
    6.0 * (user + candidates / hyper.batch_size as f64 * item + candidates * dim as f64)
}

/// Prints one row.
fn measure(data: &Data, setting: Setting, steps: usize, ceiling: f64) -> Outcome<()> {
    let hyperparameters = Hyperparameters {
        batch_size: setting.batch_size,
        ..Hyperparameters::default()
    };
    let learned = TrainingData {
        catalogue: &data.catalogue,
        timelines: data.timelines.clone(),
        until: None,
    };
    let mut run = Run::new(learned, &hyperparameters, Goal::Epochs(1))?;
    let estimate = run.memory().total();
    let (mut before, mut cpu, mut wall) = (0, 0.0, Instant::now());
    let mut after = 0;
    for step in 0..steps.saturating_add(WARM_UP) {
        // The end of an epoch, which embeds all videos, is part of the measurement.
        after = match run.advance()? {
            Some(Progress::Step { examples, .. }) => examples,
            Some(Progress::Epoch(record)) if steps == usize::MAX => {
                after = record.examples;
                break;
            }
            _ => {
                return Err(
                    "the epoch ended before the last step: raise likes or lower steps".into(),
                );
            }
        };
        if step + 1 == WARM_UP {
            (before, cpu, wall) = (after, process::cpu_seconds()?, Instant::now());
        }
    }
    let (cpu, wall) = (process::cpu_seconds()? - cpu, wall.elapsed().as_secs_f64());
    let examples = (after - before) as f64;
    println!(
        "{:>5}  {:>7}  {:>7}  {:>14.2}  {:>15.2}  {:>10.0}  {:>7.0}  {:>10.0}  {:>20.0} %",
        setting.batch_size,
        setting.id_only,
        setting.threads,
        1e6 * cpu / examples,
        1e6 * wall / examples,
        examples / wall,
        status_kb("VmHWM")? / 1024.0,
        estimate as f64 / (1024.0 * 1024.0),
        100.0 * operations(&hyperparameters, data) / ceiling / (cpu / examples),
    );
    Ok(())
}

fn status_kb(key: &str) -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number
        .ok_or_else(|| format!("no {key} in /proc/self/status"))?
        .parse()?)
}
