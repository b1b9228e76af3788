//! Searches hyperparameters on validation, by successive halving.

mod space;

mod halving;

mod budget;

mod state;

mod folder;

mod resumption;

mod watch;

mod tuner;

mod report;

pub(crate) use report::TuneReport;

use super::data::read_data;
use super::training_set::TrainingSet;
use crate::config::Config;
use crate::files::{lock_folder, write_whole};
use crate::interrupt::Interrupt;
use anyhow::{Context, ensure};
use budget::Budget;
use folder::StateFolder;
use state::{Plan, State};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tuner::Tuner;
use twotower_core::interaction::Dataset;
use twotower_core::split::Phase;
use twotower_core::train::Prepared;
use twotower_store::{Store, snapshot_sha256};

/// Options of a search.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TuneOptions {
    /// The present configuration: trial 0, and the values of everything that is not searched.
    pub(crate) config: Config,
    /// Number of trials, trial 0 included.
    pub(crate) trials: usize,
    /// Wall-clock budget, shared with earlier runs of the same search.
    pub(crate) budget: Duration,
    /// Seed for drawing trials; training uses the seed of the configuration.
    pub(crate) seed: u64,
    /// The configuration file to write.
    pub(crate) output: PathBuf,
    /// Whether the output may replace an existing file.
    pub(crate) overwrite: bool,
    /// Folder of the state and checkpoints of the search.
    pub(crate) state_dir: PathBuf,
    /// Resume the search in `state_dir`.
    pub(crate) resume: bool,
}

/// Searches for hyperparameters that are better on validation, and writes the best ones as a
/// configuration file.
///
/// # Errors
/// If the output exists, the data are too few, `resume` is set and the state is of another search,
/// the store or the disk fails, or `interrupt` is set. The state of the search is kept then.
pub(crate) async fn tune(
    store: &Store,
    options: &TuneOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<TuneReport> {
    let started = Instant::now();
    check_output(options)?;
    let training = &options.config.training;
    let read = read_data(store, &options.config.source, training.max_age_days);
    // The ids of users are dropped before the search.
    let dataset = read.await?.dataset;
    let (options, interrupt) = (options.clone(), interrupt.clone());
    tokio::task::spawn_blocking(move || {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.config.training.threads.max(1))
            .build()
            .context("start training threads")?;
        let state = pool.install(|| search(dataset, &options, started, &interrupt))?;
        conclude(&state, &options)
    })
    .await?
}

/// Refuses to replace a file unless [`TuneOptions::overwrite`] is set.
fn check_output(options: &TuneOptions) -> anyhow::Result<()> {
    let output = &options.output;
    ensure!(
        options.overwrite || !output.exists(),
        "{} exists already: name another file with --output, or allow it to be replaced with --overwrite",
        output.display()
    );
    Ok(())
}

/// Runs the search, or the rest of it. Returns its state afterwards.
fn search(
    dataset: Dataset,
    options: &TuneOptions,
    started: Instant,
    interrupt: &Interrupt,
) -> anyhow::Result<State> {
    let training = &options.config.training;
    let snapshot_sha256 = snapshot_sha256(&dataset);
    // As in training, the memory of the rows is reused for the histories, and only the held-out
    // users for validation are kept.
    let data = TrainingSet::of_snapshot(dataset, training.split, None);
    let held_out = data.validation_users()?;
    ensure!(
        !held_out.users.is_empty(),
        "nobody who is known from the training part has a like in the validation part, so trials cannot be compared: import more with \
         `twotower import`, or try --split llo"
    );
    let folder = StateFolder(options.state_dir.clone());
    let fresh = State::new(&Plan {
        snapshot_sha256,
        split: training.split,
        seed: options.seed,
        trials: options.trials,
        base: options.config.hyperparameters.clone(),
    });
    let _lock = lock_folder(&options.state_dir, "search")?;
    let state = folder.begin(fresh, options.resume)?;
    let minutes = u64::from(training.checkpoint_minutes);
    let seen = data.seen_before(Phase::Validation);
    let mut tuner = Tuner {
        data: Prepared::new(seen, &options.config.hyperparameters)?,
        held_out: &held_out,
        folder: &folder,
        budget: Budget::new(options.budget, state.used_s, started),
        state,
        checkpoint_interval: (minutes > 0).then(|| Duration::from_secs(60 * minutes)),
        interrupt,
    };
    tuner.run()?;
    Ok(State {
        used_s: tuner.budget.used_s(),
        ..tuner.state
    })
}

/// Writes the configuration file.
fn conclude(state: &State, options: &TuneOptions) -> anyhow::Result<TuneReport> {
    let report = TuneReport::new(state, &options.output);
    let report = report.with_context(|| nothing_found(state, &options.state_dir))?;
    let text = report.to_toml(state, &options.config, SystemTime::now())?;
    check_output(options)?;
    write_whole(&options.output, text.as_bytes()).with_context(|| {
        format!(
            "write {}; the search is done, and with --resume it is only written again",
            options.output.display()
        )
    })?;
    Ok(report)
}

fn nothing_found(state: &State, state_dir: &Path) -> String {
    if state.next().is_some() {
        format!(
            "the budget was over before the first trial had done its {} epochs: `--resume` with a larger `--budget` goes on (the search is in {})",
            state.rungs[0],
            state_dir.display()
        )
    } else {
        "every trial diverged, that of the configuration as it is too: lower its learning_rate or raise its temperature".to_owned()
    }
}
