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
use crate::config::Training;
use crate::import::ImportArgs;
use crate::serve::ServeArgs;
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
        env = DATABASE_VARIABLE,
        hide_env_values = true,
        default_value = DEFAULT_DATABASE,
        value_parser = |text: &str| Ok::<_, Infallible>(database(text, std::env::var(DATABASE_VARIABLE).ok())),
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
pub enum Job {
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
    /// Search hyperparameters that are better on validation
    Tune(TuneArgs),
    /// Judge a model against baselines on likes it has not seen
    Evaluate(EvaluateArgs),
    /// Bring a model's vectors in the database up to date
    Update(UpdateArgs),
    /// Bring vectors that were computed elsewhere into the database
    Load(LoadArgs),
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
}

/// Commands of the program twotower-scale, which this one becomes for them.
#[derive(Debug, Subcommand)]
pub enum Scale {
    /// Pack likes and skips of any number into the shards that `train --data` reads, here or on a cluster; by twotower-scale
    #[command(disable_help_flag = true)]
    Prepare(ScaleArgs),
    /// Embed videos and users of any number into the files that `load` reads, here or on a cluster; by twotower-scale
    #[command(disable_help_flag = true)]
    Embed(ScaleArgs),
    /// Run the scheduler of a Ballista cluster; by twotower-scale
    #[command(disable_help_flag = true)]
    Scheduler(ScaleArgs),
    /// Run one executor of a Ballista cluster; by twotower-scale
    #[command(disable_help_flag = true)]
    Executor(ScaleArgs),
}

/// Commands that need neither a configuration nor a database.
#[derive(Debug, Subcommand)]
pub enum Itself {
    /// Print the contract of the HTTP API, as `twotower serve` tells it at /openapi.json
    Openapi,
    /// Print what a shell needs to complete commands and flags
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
    /// The section `[training]` of the configuration, overridden by flags.
    pub fn over(&self, file: &Training) -> Training {
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
