//! Train, evaluate, update, tune: what the commands do, apart from the arguments that name it.

mod card;

mod check;

mod checkpoint;

mod cohorts;

mod data;

mod demo;

mod dormant;

mod erase;

mod error;

mod evaluate;

pub mod experiment;

pub(crate) mod file;

mod fit;

mod gate;

mod generation;

pub(crate) mod identity;

pub(crate) mod index;

mod load;

pub mod models;

mod prune;

mod publisher;

mod retry;

mod size;

pub mod storage;

mod train;

mod training_set;

mod tune;

mod update;

pub use data::{Amount, MINIMUM_LIKES, RECOMMENDED, check_sufficiency};
pub use demo::{DemoMetrics, DemoOutcome, OracleDistance, demo};
pub use erase::{Before, EraseOptions, EraseReport, FoundFile, SearchReport, SearchedFiles, erase};
pub use error::JobError;
pub use evaluate::{Against, EvaluateOptions, Evaluated, evaluate, evaluate_shards};
pub(crate) use file::{read_if_there, remove_if_there, write_among_others, write_whole};
pub use gate::Gate;
pub(crate) use identity::host;
pub use identity::{describe_holder, operator};
pub use load::{LoadOptions, LoadReport, Loaded, load};
pub use models::{Decision, ListedModel, Switched};
pub use prune::{Overdue, PruneOptions, PruneReport, Pruned, PrunedVersion, Reason, prune};
pub(crate) use publisher::Publisher;
pub use retry::Retry;
pub use train::{
    FINE_TUNING_EPOCHS, FineTuning, Resume, ShardOptions, TrainOptions, TrainReport, train,
};
pub use tune::{TrialReport, TuneOptions, TuneReport, tune};
pub use update::{
    ChallengerReport, Changes, UpdateMode, UpdateOptions, UpdateReport, Updated, update,
};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set once the user asked to stop (Ctrl-C, SIGTERM); long work looks at it between steps.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until it is to stop.
    pub async fn wait(&self) {
        while !self.is_set() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Does `work`, and drops it where it is once it is to stop: for what is undone by that.
    ///
    /// # Errors
    /// [`JobError::Interrupted`]
    pub async fn cut<T>(&self, work: impl Future<Output = T>) -> Result<T, JobError> {
        tokio::select! {
            biased;
            () = self.wait() => Err(JobError::Interrupted),
            done = work => Ok(done),
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}
