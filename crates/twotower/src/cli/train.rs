//! `twotower train`.

use super::args::{DataArgs, GlobalArgs};
use super::commands::connect;
use super::output::print;
use super::size::Bytes;
use super::update;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::{
    self, FINE_TUNING_EPOCHS, FineTuning, Gate, LeftAlone, Resume, ShardOptions, TrainOptions,
    UpdateMode, UpdateOptions,
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use twotower_core::hyperparameters::{HyperparameterError, Hyperparameters};

/// When training goes on from a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResumeArg {
    /// Whenever there is one; other data or flags are an error
    Always,
    /// Only if data and flags are the same
    IfSame,
}

impl From<ResumeArg> for Resume {
    fn from(resume: ResumeArg) -> Self {
        match resume {
            ResumeArg::Always => Self::Always,
            ResumeArg::IfSame => Self::IfSame,
        }
    }
}

/// Arguments of `twotower train`. What is not given comes from the configuration file, then from the defaults.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TrainArgs {
    /// Dimension of the embeddings [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) embedding_dim: Option<usize>,

    /// Likes to predict per step [default: 512]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,

    /// Maximum number of passes over the likes; training stops earlier once validation no longer improves [default: 20, with --from 2]
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,

    /// Folder of models, in which the model's own folder is created [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output_dir: Option<PathBuf>,

    /// Write the new model's vectors into the database and serve them
    #[arg(long)]
    pub(crate) update_db: bool,

    /// With --update-db: make the model active even if the quality gate refuses it, which the history records, or an experiment ends by it
    #[arg(long, requires = "update_db")]
    pub(crate) force: bool,

    /// Seed of all random numbers: same data, flags and seed give the same bytes [default: 42]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Temperature of the softmax [default: 0.1]
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,

    /// Learning rate of the dense layers [default: 0.002]
    #[arg(long, value_name = "RATE")]
    pub(crate) learning_rate: Option<f32>,

    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Videos drawn uniformly per step as negatives, in addition to those of the batch [default: 512]
    #[arg(long, value_name = "N")]
    pub(crate) negatives: Option<usize>,

    /// Continue a killed or interrupted run from its checkpoint; the resulting model is the same. Data and flags must be the same;
    /// with =if-same, training starts anew if they are not
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always"
    )]
    pub(crate) resume: Option<ResumeArg>,

    /// Leave out the logQ correction, for comparison: the top of a list may be ranked better, the rest is ranked worse
    #[arg(long)]
    pub(crate) no_log_q: bool,

    /// Learn from shards made by `twotower prepare` instead of the database
    #[arg(long = "data", value_name = "FOLDER", conflicts_with = "max_age_days")]
    pub(crate) shards: Option<PathBuf>,

    /// With --data: memory limit of training, such as 4GB. Likes are then read from a file in the folder of models during training;
    /// the model is the same
    #[arg(long, value_name = "SIZE", requires = "shards")]
    pub(crate) memory_limit: Option<Bytes>,

    /// Continue training this model with the likes that came in since, instead of training a new one; its hyperparameters stay
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["embedding_dim", "batch_size", "seed", "temperature", "learning_rate", "negatives", "no_log_q", "split"])]
    pub(crate) from: Option<PathBuf>,
}

impl TrainArgs {
    /// The options: flags override the configuration.
    ///
    /// # Errors
    /// [`HyperparameterError`] if a flag is outside its range.
    pub(crate) fn options(&self, config: &Config) -> Result<TrainOptions, HyperparameterError> {
        let file = &config.hyperparameters;
        let hyperparameters = Hyperparameters {
            embedding_dim: self.embedding_dim.unwrap_or(file.embedding_dim),
            batch_size: self.batch_size.unwrap_or(file.batch_size),
            epochs: self.epochs.unwrap_or(file.epochs),
            seed: self.seed.unwrap_or(file.seed),
            temperature: self.temperature.unwrap_or(file.temperature),
            learning_rate: self.learning_rate.unwrap_or(file.learning_rate),
            negatives: self.negatives.unwrap_or(file.negatives),
            log_q: file.log_q && !self.no_log_q,
            ..file.clone()
        };
        hyperparameters.validate()?;
        let training = self.data.over(&config.training);
        Ok(TrainOptions {
            hyperparameters,
            split: training.split,
            max_age_days: training.max_age_days,
            threads: training.threads,
            output_dir: self.output_dir.clone().unwrap_or(training.output_dir),
            checkpoint_minutes: training.checkpoint_minutes,
            resume: self.resume.map_or(Resume::No, Into::into),
            from: self.from.clone().map(|folder| FineTuning {
                folder,
                epochs: self.epochs.unwrap_or(FINE_TUNING_EPOCHS),
            }),
            shards: self.shards.clone().map(|folder| ShardOptions {
                folder,
                memory_limit: self.memory_limit.map(|Bytes(bytes)| bytes),
            }),
        })
    }
}

pub(super) async fn run(
    args: &TrainArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config)?;
    let store = connect(global, config).await?;
    let report = jobs::train(&store, &config.source, &options, interrupt).await?;
    let ndcg = report
        .validation_ndcg_at_10
        .map_or("no validation".into(), |ndcg| {
            format!("validation NDCG@10 {ndcg:.4}")
        });
    let text = format!(
        "model {} in {}: epoch {}, {ndcg}, {:.1} s",
        report.version,
        report.path.display(),
        report.best_epoch,
        report.seconds
    );
    if args.update_db {
        let update = UpdateOptions {
            model_path: report.path.clone(),
            left_alone: LeftAlone::Nothing,
            mode: UpdateMode::Activate,
            full: false,
            gate: Gate::of(config),
            force: args.force,
            reason: "train --update-db".into(),
            user_vector_days: config.prune.user_vector_days,
            settings: config.update.clone(),
        };
        let updated = jobs::update(&store, &config.source, &update, interrupt).await?;
        let (update, update_text) = update::outcome(&updated);
        print(
            global.json,
            &json!({ "train": report, "update": update }),
            &format!("{text}\n{update_text}"),
        )?;
    } else {
        print(global.json, &json!({ "train": report }), &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command, Job};
    use clap::Parser;

    #[test]
    fn the_guides_flags_override_the_configuration() {
        let line = "twotower train --db-url sqlite://x.db --embedding-dim 32 --batch-size 256 --epochs 5 --output-dir out --update-db";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Job(Job::Train(args)) = cli.command else {
            panic!("not train")
        };
        let config = Config::parse(
            "[hyperparameters]\nepochs = 3\nnegatives = 7",
            std::path::Path::new("x.toml"),
        )
        .unwrap();
        let options = args.options(&config).unwrap();
        assert!(args.update_db);
        assert_eq!(
            (
                options.hyperparameters.epochs,
                options.hyperparameters.negatives
            ),
            (5, 7)
        );
        assert_eq!(
            (
                options.hyperparameters.embedding_dim,
                options.hyperparameters.batch_size
            ),
            (32, 256)
        );
        assert_eq!(options.output_dir, PathBuf::from("out"));
        assert!(
            TrainArgs {
                epochs: Some(0),
                ..TrainArgs::default()
            }
            .options(&config)
            .is_err()
        );
    }
}
