//! The work behind the commands (train, evaluate, update, tune and others), apart from their
//! arguments.

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
pub use gate::Gate;
pub(crate) use identity::host;
pub use identity::{describe_holder, operator};
pub use load::{LoadOptions, LoadReport, load};
pub use models::{Decision, ListedModel, Switched};
pub use prune::{Overdue, PruneOptions, PruneReport, PrunedVersion, Reason, prune};
pub use publisher::Published;
pub(crate) use publisher::Publisher;
pub use retry::Retry;
pub(crate) use retry::jittered;
pub use train::{
    FINE_TUNING_EPOCHS, FineTuning, Resume, ShardOptions, TrainOptions, TrainReport, train,
};
pub use tune::{TrialReport, TuneOptions, TuneReport, tune};
pub use update::{ChallengerReport, Changes, UpdateMode, UpdateOptions, UpdateReport, update};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A flag that is set when the user asks to stop (Ctrl-C, SIGTERM). Long work checks it between
/// steps.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the user asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until the user asks to stop.
    pub async fn wait(&self) {
        while !self.is_set() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs `work`, and drops the future when the user asks to stop. Use it only for work that can
    /// be cancelled at any point.
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
