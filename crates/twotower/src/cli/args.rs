use super::alert::AlertArgs;
use super::backup::BackupArgs;
use super::doctor::DoctorArgs;
use super::erase::EraseArgs;
use super::experiment::ExperimentArgs;
use super::maintain::MaintainArgs;
use super::models::{ModelsArgs, RollbackArgs};
use super::prune::PruneArgs;
use super::restore::RestoreArgs;
use super::run::RunArgs;
use super::schedule::ScheduleArgs;
use super::shell::{CompletionsArgs, ManualArgs};
use super::storage::{FetchArgs, KeysArgs, PublishArgs};
use super::tune::TuneArgs;
use crate::config::{Config, Training, Update};
use crate::demo::GeneratorOptions;
use crate::import::ImportArgs;
use crate::jobs::{
    EvaluateOptions, FINE_TUNING_EPOCHS, FineTuning, Gate, Resume, TrainOptions, UpdateMode,
    UpdateOptions,
};
use crate::serve::{ConsoleAccess, Policy, ServeArgs, ServeConfig, auth};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use twotower_core::hyperparameters::{HyperparameterError, Hyperparameters};
use twotower_core::split::SplitKind;

/// A two-tower recommender for the database a team already has.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 too little data, 4 database or storage out of reach or busy, 5 refused by the quality gate, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "twotower", version)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// Database: `postgresql://user@host/database` or `sqlite://file.db`
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://twotower.db",
        value_name = "URL"
    )]
    pub db_url: String,

    /// Configuration file [default: twotower.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// Stop when standard input ends: `twotower run` says so to the commands that it runs
    #[arg(long, global = true, hide = true)]
    pub supervised: bool,

    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// File that log lines go to, as JSON unless --log-format says human; errors stand on standard error too. SIGHUP opens it again
    #[arg(long, global = true, env = "TWOTOWER_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "TWOTOWER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto"
    )]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, with time and level elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything on generated data in an embedded database: generate, train, evaluate, update, serve
    Demo(DemoArgs),
    /// Create or upgrade the schema
    Migrate,
    /// Import videos, likes and skips from files
    Import(ImportArgs),
    /// Learn both towers from likes and skips
    Train(TrainArgs),
    /// Search hyperparameters that are better on validation
    Tune(TuneArgs),
    /// Judge a model against baselines on likes it has not seen
    Evaluate(EvaluateArgs),
    /// Bring a model's vectors in the database up to date
    Update(UpdateArgs),
    /// The registered versions: list, show, promote, rollback, retire
    Models(ModelsArgs),
    /// Back to the version that was active before the present one; the same as `twotower models rollback`
    Rollback(RollbackArgs),
    /// Two versions side by side: start, stop, report
    Experiment(ExperimentArgs),
    /// Upload a model to a folder or a bucket, signed
    Publish(PublishArgs),
    /// Download a model that was published, after checking who signed it
    Fetch(FetchArgs),
    /// Keys that sign models: generate, show, verify
    Keys(KeysArgs),
    /// Delete what there is of a user, and keep them from coming back
    Erase(EraseArgs),
    /// Remove what is no longer needed: vectors of old versions and of users who stay away, folders of old models
    Prune(PruneArgs),
    /// Serve recommendations over HTTP
    Serve(ServeArgs),
    /// Run a job as it runs at night: one at a time, with a time limit and further tries, written down in the database
    Run(RunArgs),
    /// Run each job when it is due, in the foreground; for containers
    Schedule(ScheduleArgs),
    /// Look at everything, and say what is wrong and what to do
    Doctor(DoctorArgs),
    /// What is wrong now, and who is told
    Alert(AlertArgs),
    /// Upkeep of the tables: dead rows, statistics, a bloated index
    Maintain(MaintainArgs),
    /// Copy what is ours into a folder
    Backup(BackupArgs),
    /// Put back what was copied
    Restore(RestoreArgs),
    /// Print the contract of the HTTP API, as `twotower serve` tells it at /openapi.json
    Openapi,
    /// Print what a shell needs to complete commands and flags
    Completions(CompletionsArgs),
    /// Write a manual page for each command
    Manual(ManualArgs),
}

/// How likes are cut into training, validation and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// By time: the last tenth is test, the tenth before it validation
    Temporal,
    /// Leave-last-out: of each user the last like is test, the one before it validation
    Llo,
}

impl From<SplitArg> for SplitKind {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::Temporal => Self::Temporal,
            SplitArg::Llo => Self::Llo,
        }
    }
}

/// When training goes on from a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResumeArg {
    /// Whenever there is one; of other data or flags it is an error
    Always,
    /// If it is of the same data and flags
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

/// What `train` and `tune` learn from, and with how many threads.
#[derive(Debug, Clone, Default, Args)]
pub struct DataArgs {
    /// How likes are cut into training, validation and test [default: temporal]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<SplitArg>,

    /// Leave out likes and skips older than so many days before the latest one
    #[arg(long, value_name = "DAYS")]
    pub max_age_days: Option<u32>,

    /// Threads; the result does not depend on it [default: 2]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl DataArgs {
    /// Flags over the section `[training]` of the configuration.
    pub fn over(&self, file: &Training) -> Training {
        Training {
            split: self.split.map_or(file.split, Into::into),
            max_age_days: self.max_age_days.or(file.max_age_days),
            threads: self.threads.unwrap_or(file.threads),
            ..file.clone()
        }
    }
}

/// Arguments of `twotower train`. What is not given comes from the configuration file, then from the defaults.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Default, Args)]
pub struct TrainArgs {
    /// Dimension of the embeddings [default: 64]
    #[arg(long, value_name = "N")]
    pub embedding_dim: Option<usize>,

    /// Likes to predict per step [default: 512]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,

    /// Most passes over the likes; training stops earlier once validation no longer improves [default: 20, with --from 2]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,

    /// Folder in which the model's own folder is made [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub output_dir: Option<PathBuf>,

    /// Write the new model's vectors into the database and serve them
    #[arg(long)]
    pub update_db: bool,

    /// With --update-db: make the model active although the quality gate refuses it; the history says so
    #[arg(long, requires = "update_db")]
    pub force: bool,

    /// Seed of all random numbers: same data, flags and seed give the same bytes [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Temperature of the softmax [default: 0.1]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,

    /// Learning rate of the dense layers [default: 0.002]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f32>,

    #[command(flatten)]
    pub data: DataArgs,

    /// Videos drawn uniformly per step as negatives, beside the batch's own [default: 512]
    #[arg(long, value_name = "N")]
    pub negatives: Option<usize>,

    /// Go on where a run that was killed or interrupted stood; it ends at the same bytes. Asks for the same data and flags;
    /// with =if-same, training begins afresh if they are not
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always"
    )]
    pub resume: Option<ResumeArg>,

    /// Leave out the logQ correction: much worse, for comparison only
    #[arg(long)]
    pub no_log_q: bool,

    /// Go on from a model with the likes that came in since, instead of training afresh; its hyperparameters stay
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["embedding_dim", "batch_size", "seed", "temperature", "learning_rate", "negatives", "no_log_q", "split"])]
    pub from: Option<PathBuf>,
}

impl TrainArgs {
    /// Flags over configuration.
    ///
    /// # Errors
    /// [`HyperparameterError`] if a flag is outside its range.
    pub fn options(&self, config: &Config) -> Result<TrainOptions, HyperparameterError> {
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
        })
    }
}

/// Arguments of `twotower evaluate`.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// A model's folder, or a folder of models, whose newest is taken [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub model_path: Option<PathBuf>,

    /// How likes are cut [default: as the model was trained]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<SplitArg>,

    /// Leave out likes and skips older than so many days before the latest one
    #[arg(long, value_name = "DAYS")]
    pub max_age_days: Option<u32>,

    /// Threads [default: 2]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl EvaluateArgs {
    /// Flags over configuration.
    pub fn options(&self, config: &Config) -> EvaluateOptions {
        EvaluateOptions {
            model_path: self
                .model_path
                .clone()
                .unwrap_or_else(|| config.training.output_dir.clone()),
            split: self.split.map(Into::into),
            max_age_days: self.max_age_days.or(config.training.max_age_days),
            threads: self.threads.unwrap_or(config.training.threads),
        }
    }
}

/// Arguments of `twotower update`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Args)]
pub struct UpdateArgs {
    /// A model's folder, or a folder of models: of these a new one is made active, else the active one is kept up to date [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub model_path: Option<PathBuf>,

    /// Read everything, write nothing, print what would change
    #[arg(long)]
    pub dry_run: bool,

    /// Recompute what has not changed, too
    #[arg(long)]
    pub full: bool,

    /// Load a version without making it active, for `twotower models promote`
    #[arg(long)]
    pub no_activate: bool,

    /// Make a version active although the quality gate refuses it; the history says so
    #[arg(long)]
    pub force: bool,

    /// Vectors a transaction [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub batch_size: Option<usize>,

    #[command(flatten)]
    pub index: IndexArgs,
}

/// The index for those who search in SQL.
#[derive(Debug, Clone, Args)]
pub struct IndexArgs {
    /// Build no index of the video vectors; only those who search in SQL miss it
    #[arg(long)]
    pub no_index: bool,

    /// Most memory for PostgreSQL to build the index in, megabytes [default: 1024]
    #[arg(long, value_name = "MB")]
    pub index_memory_mb: Option<u64>,
}

impl UpdateArgs {
    /// Flags over configuration.
    pub fn options(&self, config: &Config) -> UpdateOptions {
        let file = &config.update;
        UpdateOptions {
            model_path: self
                .model_path
                .clone()
                .unwrap_or_else(|| config.training.output_dir.clone()),
            mode: match (self.dry_run, self.no_activate) {
                (true, _) => UpdateMode::DryRun,
                (false, true) => UpdateMode::Load,
                (false, false) => UpdateMode::Activate,
            },
            full: self.full,
            gate: Gate::of(config),
            force: self.force,
            reason: "update".into(),
            user_vector_days: config.prune.user_vector_days,
            settings: Update {
                batch_size: self.batch_size.unwrap_or(file.batch_size),
                index: file.index && !self.index.no_index,
                index_memory_mb: self.index.index_memory_mb.unwrap_or(file.index_memory_mb),
                ..file.clone()
            },
        }
    }
}

/// Arguments of `twotower demo`. All else of training follows the configuration file.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Videos to generate
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub videos: usize,

    /// Users to generate
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub users: usize,

    /// Likes to generate
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub likes: usize,

    /// Seed of the generated data
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,

    /// Most passes over the likes: fewer than `train` makes, so that the demo is done within minutes
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub epochs: usize,

    /// Address and port of the console
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// End after the update
    #[arg(long)]
    pub no_serve: bool,
}

impl DemoArgs {
    /// What to generate.
    pub fn options(&self) -> GeneratorOptions {
        GeneratorOptions {
            videos: self.videos,
            users: self.users,
            likes: self.likes,
            seed: self.seed,
            ..GeneratorOptions::default()
        }
    }

    /// The console's server, with a key of its own.
    pub fn serve_config(&self, config: &Config) -> ServeConfig {
        ServeConfig {
            listen: self.listen,
            models: config.training.output_dir.clone(),
            auth: auth::Config::default(),
            console: ConsoleAccess::Loopback,
            limits: config.serve.limits(),
            policy: Policy::new(config),
            new_days: config.serve.new_days,
            cors: config.serve.cors(),
            metrics_listen: None,
            events: config.events.store,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_guides_flags_override_the_configuration() {
        let line = "twotower train --db-url sqlite://x.db --embedding-dim 32 --batch-size 256 --epochs 5 --output-dir out --update-db";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Train(args) = cli.command else {
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
