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

pub(crate) mod experiment;

mod fit;

mod gate;

mod generation;

pub(crate) mod identity;

pub(crate) mod index;

mod load;

pub(crate) mod models;

mod prune;

mod publisher;

mod retry;

mod size;

pub(crate) mod storage;

mod train;

mod training_set;

mod tune;

mod update;

pub(crate) use data::{MINIMUM_LIKES, check_sufficiency};
pub(crate) use demo::demo;
pub(crate) use erase::{Before, EraseOptions, EraseReport, SearchReport, erase};
pub(crate) use error::JobError;
pub(crate) use evaluate::{Against, EvaluateOptions, Evaluated, evaluate, evaluate_shards};
pub(crate) use gate::Gate;
pub(crate) use identity::{describe_holder, host, operator};
pub(crate) use load::{LoadOptions, LoadReport, load};
pub(crate) use models::{Decision, ListedModel, Switched};
pub(crate) use prune::{PruneOptions, PruneReport, PrunedVersion, prune};
pub(crate) use publisher::{Published, Publisher};
pub(crate) use retry::{Retry, jittered};
pub(crate) use train::{FINE_TUNING_EPOCHS, FineTuning, Resume, ShardOptions, TrainOptions, train};
pub(crate) use tune::{TuneOptions, tune};
pub(crate) use update::{LeftAlone, UpdateMode, UpdateOptions, UpdateReport, update};
