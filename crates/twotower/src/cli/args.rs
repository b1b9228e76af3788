use super::alert::AlertArgs;
use super::backup::BackupArgs;
use super::demo::DemoArgs;
use super::doctor::DoctorArgs;
use super::erase::EraseArgs;
use super::evaluate::EvaluateArgs;
use super::experiment::ExperimentArgs;
use super::export::ExportArgs;
use super::load::LoadArgs;
use super::maintain::MaintainArgs;
use super::migrate::MigrateArgs;
use super::models::{ModelsArgs, RollbackArgs};
use super::prune::PruneArgs;
use super::restore::RestoreArgs;
use super::run::RunArgs;
use super::scale::ScaleArgs;
use super::schedule::ScheduleArgs;
use super::shell::{CompletionsArgs, ManualArgs};
use super::storage::{FetchArgs, KeysArgs, PublishArgs};
use super::train::TrainArgs;
use super::tune::TuneArgs;
use super::update::UpdateArgs;
use crate::config::{Config, MAX_THREADS, Training};
use crate::import::ImportArgs;
use crate::operations::Place;
use crate::serve::ServeArgs;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::convert::Infallible;
use std::path::PathBuf;
use twotower_core::split::SplitKind;

/// Environment variable with the address of the database.
const DATABASE_VARIABLE: &str = "DATABASE_URL";

/// Address of the database if none is given.
const DEFAULT_DATABASE: &str = "sqlite://twotower.db";

/// A two-tower recommender for the database a team already has.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 too little data, 4 database or storage out of reach or busy, or another process publishes, 5 refused by the quality gate, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "twotower", version)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// Database: `postgresql://user@host/database` or `sqlite://file.db`
    #[arg(
        long,
        global = true,
        env = DATABASE_VARIABLE,
        hide_env_values = true,
        default_value = DEFAULT_DATABASE,
        value_parser = |text: &str| Ok::<_, Infallible>(database(text, std::env::var(DATABASE_VARIABLE).ok())),
        value_name = "URL"
    )]
    pub(crate) db_url: String,

    /// Configuration file [default: twotower.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Stop when standard input ends: `twotower run` says so to the commands that it runs
    #[arg(long, global = true, hide = true)]
    pub(crate) supervised: bool,

    /// More log output; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// File for log lines, as JSON unless --log-format says human; errors also go to standard error. SIGHUP reopens it
    #[arg(long, global = true, env = "TWOTOWER_LOG_FILE", value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// Format of log lines
    #[arg(
        long,
        global = true,
        env = "TWOTOWER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto"
    )]
    pub(crate) log_format: LogFormat,
}

impl GlobalArgs {
    /// The installation that they name.
    pub(super) fn place(&self, config: &Config) -> Place {
        Place {
            db_url: self.db_url.clone(),
            config_file: self.config.clone(),
            config: config.clone(),
        }
    }
}

/// Treats an empty address as none, as in `--db-url "$DATABASE_URL"` with an unset variable. Then
/// `variable` applies, or else the default.
fn database(text: &str, variable: Option<String>) -> String {
    let mut named = std::iter::once(text.to_owned()).chain(variable);
    named
        .find(|address| !address.trim().is_empty())
        .unwrap_or_else(|| DEFAULT_DATABASE.into())
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people on a terminal, with time and level elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What a configuration file shapes, and a signal asks to stop.
    #[command(flatten)]
    Job(Job),
    /// Serve recommendations over HTTP
    Serve(ServeArgs),
    /// What twotower-scale does.
    #[command(flatten)]
    Scale(Scale),
    /// What the program says about itself.
    #[command(flatten)]
    Itself(Itself),
}

/// Commands that a configuration file shapes, and a signal asks to stop.
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Everything on generated data in an embedded database: generate, train, evaluate, update, serve
    Demo(DemoArgs),
    /// Create or upgrade the schema
    Migrate(MigrateArgs),
    /// Import videos, likes and skips from files
    Import(ImportArgs),
    /// Export videos, likes and skips into files that import reads
    Export(ExportArgs),
    /// Learn both towers from likes and skips
    Train(TrainArgs),
    /// Search for hyperparameters that do better on validation
    Tune(TuneArgs),
    /// Compare a model with baselines on likes that it has not seen
    Evaluate(EvaluateArgs),
    /// Bring a model's vectors in the database up to date
    Update(UpdateArgs),
    /// Load vectors that were computed elsewhere into the database
    Load(LoadArgs),
    /// Registered versions: list, show, promote, rollback, retire
    Models(ModelsArgs),
    /// Go back to the previously active version; the same as `twotower models rollback`
    Rollback(RollbackArgs),
    /// Compare two versions on real users: start, stop, report
    Experiment(ExperimentArgs),
    /// Upload a model to a folder or a bucket, signed
    Publish(PublishArgs),
    /// Download a published model, after checking its signature
    Fetch(FetchArgs),
    /// Keys for signing models: generate, show, verify
    Keys(KeysArgs),
    /// Delete all data of a user, and keep it from coming back
    Erase(EraseArgs),
    /// Remove what is no longer needed: vectors of old versions and of inactive users, folders of old models
    Prune(PruneArgs),
    /// Run a job unattended: one at a time, with a time limit and retries, recorded in the database
    Run(RunArgs),
    /// Run each job when it is due, in the foreground; for containers
    Schedule(ScheduleArgs),
    /// Check everything, and say what is wrong and what to do
    Doctor(DoctorArgs),
    /// Alerts: check, list, test
    Alert(AlertArgs),
    /// Maintain the tables: dead rows, statistics, a bloated index
    Maintain(MaintainArgs),
    /// Back up our own tables and models into a folder
    Backup(BackupArgs),
    /// Restore a backup
    Restore(RestoreArgs),
}

/// Commands of the program twotower-scale, which this one becomes for them.
#[derive(Debug, Subcommand)]
pub(crate) enum Scale {
    /// Pack any number of likes and skips into the shards that `train --data` reads, here or on a cluster; needs twotower-scale
    #[command(disable_help_flag = true)]
    Prepare(ScaleArgs),
    /// Embed any number of videos and users into the files that `load` reads, here or on a cluster; needs twotower-scale
    #[command(disable_help_flag = true)]
    Embed(ScaleArgs),
    /// Run the scheduler of a Ballista cluster; needs twotower-scale
    #[command(disable_help_flag = true)]
    Scheduler(ScaleArgs),
    /// Run one executor of a Ballista cluster; needs twotower-scale
    #[command(disable_help_flag = true)]
    Executor(ScaleArgs),
}

/// Commands that need neither a configuration nor a database.
#[derive(Debug, Subcommand)]
pub(crate) enum Itself {
    /// Print the contract of the HTTP API, as `twotower serve` answers at /openapi.json
    Openapi,
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Write a manual page for each command
    Manual(ManualArgs),
}

impl Command {
    /// Whether the command runs health checks, and otherwise starts no thread that writes.
    pub(super) fn looks_around(&self) -> bool {
        matches!(
            self,
            Self::Job(Job::Alert(_) | Job::Doctor(_) | Job::Run(_) | Job::Schedule(_))
        )
    }
}

/// How likes are cut into training, validation and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArg {
    /// By time: the last tenth is test, the tenth before it validation
    Temporal,
    /// Leave-last-out: the last like of each user is test, the one before it validation
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

/// What `train` and `tune` learn from, and with how many threads.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DataArgs {
    /// How likes are split into training, validation and test [default: temporal]
    #[arg(long, value_name = "SPLIT")]
    pub(crate) split: Option<SplitArg>,

    /// Leave out likes and skips more than this many days older than the latest one
    #[arg(long, value_name = "DAYS")]
    pub(crate) max_age_days: Option<u32>,

    /// Number of threads; the result does not depend on it [default: 2]
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(crate) threads: Option<usize>,
}

/// Reads a number of threads, within the range of the configuration's key.
pub(super) fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_THREADS as u64)
}

impl DataArgs {
    /// The section `[training]` of the configuration, overridden by flags.
    pub(crate) fn over(&self, file: &Training) -> Training {
        Training {
            split: self.split.map_or(file.split, Into::into),
            max_age_days: self.max_age_days.or(file.max_age_days),
            threads: self.threads.unwrap_or(file.threads),
            ..file.clone()
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
    fn an_empty_address_is_none() {
        let variable = || Some("postgresql://a/b".to_owned());
        assert_eq!(database("sqlite://x.db", variable()), "sqlite://x.db");
        for empty in ["", " "] {
            assert_eq!(database(empty, variable()), "postgresql://a/b");
            assert_eq!(database(empty, Some(empty.into())), DEFAULT_DATABASE);
            assert_eq!(database(empty, None), DEFAULT_DATABASE);
        }
    }
}
