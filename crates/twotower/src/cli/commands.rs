use super::args::{Cli, Command, GlobalArgs, Itself, Job};
use super::experiment::{self, ExperimentArgs};
use super::models::{self, ModelsArgs};
use super::output::{lost, print, put};
use super::{
    alert, backup, demo, doctor, erase, evaluate, export, load, maintain, migrate, prune, restore,
    run as supervised, scale, schedule, shell, storage, train, tune, update,
};
use crate::config::Config;
use crate::exit_code::INTERRUPTED;
use crate::import::{self, ImportArgs};
use crate::interrupt::Interrupt;
use crate::jobs::Retry;
use crate::log_file::LogFile;
use crate::operations;
use crate::progress::Progress;
use crate::serve::{self, ServeArgs, UsageError};
use std::sync::Mutex;
use twotower_store::{Store, StoreKind};

/// Runs one command.
pub(super) async fn run(cli: Cli, log_file: Option<LogFile>) -> anyhow::Result<()> {
    let Cli { global, command } = cli;
    live_through_hangup(log_file.clone());
    match command {
        Command::Job(job) => Box::pin(run_job(job, &global, log_file)).await,
        Command::Serve(args) => {
            let config = Config::load(global.config.as_deref())?;
            let store = connect(&global, &config).await?;
            if args.replica_url().is_some() && store.kind() != StoreKind::Postgres {
                return Err(UsageError::ReplicaOfFile.into());
            }
            serve(store, args, &config).await
        }
        Command::Scale(command) => scale::run(&command, &global),
        Command::Itself(command) => about_itself(&command, &global),
    }
}

/// Runs one of the commands that read the configuration and can be interrupted.
async fn run_job(job: Job, global: &GlobalArgs, log_file: Option<LogFile>) -> anyhow::Result<()> {
    let config = &Config::load(global.config.as_deref())?;
    let interrupt = &interrupt_on_signal();
    if global.supervised {
        operations::stop_with_supervisor(interrupt);
    }
    match job {
        Job::Demo(args) => Box::pin(demo::run(args, config, global, interrupt)).await,
        Job::Migrate(args) => ends("migrate", migrate::run(&args, config, global, interrupt)).await,
        Job::Import(args) => ends("import", import(&args, config, global, interrupt)).await,
        Job::Export(args) => ends("export", export::run(&args, config, global, interrupt)).await,
        Job::Train(args) => ends("train", train::run(&args, config, global, interrupt)).await,
        Job::Tune(args) => ends("tune", tune::run(&args, config, global, interrupt)).await,
        Job::Evaluate(args) => {
            ends("evaluate", evaluate::run(&args, config, global, interrupt)).await
        }
        // It prints its last line itself, because a refused model is no success.
        Job::Update(args) => Box::pin(update::run(&args, config, global, interrupt)).await,
        Job::Load(args) => ends("load", load::run(&args, config, global, interrupt)).await,
        Job::Models(ModelsArgs { command }) => {
            let store = connect(global, config).await?;
            ends(
                command.name(),
                models::run(command, &store, config, global, interrupt),
            )
            .await
        }
        Job::Rollback(args) => {
            let store = connect(global, config).await?;
            ends(
                "rollback",
                models::rollback(args, &store, config, global, interrupt),
            )
            .await
        }
        Job::Experiment(ExperimentArgs { command }) => {
            let store = connect(global, config).await?;
            ends(
                command.name(),
                experiment::run(command, &store, config, global, interrupt),
            )
            .await
        }
        Job::Publish(args) => {
            ends(
                "publish",
                storage::publish(&args, config, global, interrupt),
            )
            .await
        }
        Job::Fetch(args) => ends("fetch", storage::fetch(&args, config, global, interrupt)).await,
        Job::Keys(args) => {
            ends(args.command.name(), async {
                storage::keys(&args.command, config, global)
            })
            .await
        }
        Job::Erase(args) => ends("erase", erase::run(&args, config, global, interrupt)).await,
        Job::Prune(args) => ends("prune", prune::run(&args, config, global, interrupt)).await,
        Job::Run(args) => {
            ends(
                "run",
                supervised::run(&args, config, global, log_file, interrupt),
            )
            .await
        }
        Job::Schedule(args) => {
            ends(
                "schedule",
                schedule::run(&args, config, global, log_file, interrupt),
            )
            .await
        }
        Job::Doctor(args) => ends("doctor", doctor::run(&args, config, global, interrupt)).await,
        // A watch prints no last line: every few minutes, it would bury the lines of the jobs.
        Job::Alert(args) if args.is_watch() => Box::pin(alert::run(&args, config, global)).await,
        Job::Alert(args) => ends(args.command.name(), alert::run(&args, config, global)).await,
        Job::Maintain(args) => {
            ends("maintain", maintain::run(&args, config, global, interrupt)).await
        }
        Job::Backup(args) => ends("backup", backup::run(&args, config, global, interrupt)).await,
        Job::Restore(args) => ends("restore", restore::run(&args, config, global, interrupt)).await,
    }
}

/// Does the work of a command, then logs its success.
async fn ends(command: &str, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    Box::pin(work).await?;
    done(command);
    Ok(())
}

/// Runs a command that needs no configuration. Output that may be redirected to a file is not
/// followed by the line on success.
fn about_itself(command: &Itself, global: &GlobalArgs) -> anyhow::Result<()> {
    match command {
        Itself::Openapi => put(&serve::openapi_document()),
        Itself::Completions(args) => put(&shell::completions(args)),
        Itself::Manual(args) => {
            shell::manual(args, global.json)?;
            done("manual");
        }
    }
    Ok(())
}

/// Asks the work to stop on the first signal, and ends the process on the second.
fn interrupt_on_signal() -> Interrupt {
    let interrupt = Interrupt::default();
    let on_signal = interrupt.clone();
    tokio::spawn(async move {
        if let Err(error) = stop_signal().await {
            return tracing::error!("signals cannot be waited for: {error}");
        }
        tracing::warn!(
            "stopping; what is under way is finished first, unless Ctrl-C is pressed again"
        );
        on_signal.set();
        if stop_signal().await.is_ok() {
            // This line makes the log write its buffered lines first.
            tracing::warn!("stopped at once");
            std::process::exit(INTERRUPTED);
        }
    });
    interrupt
}

/// Handles SIGHUP. Programs such as logrotate send it after they have renamed the log file. It may
/// also arrive without a log file; the default action would end the process, which systemd takes
/// for success. In a terminal and without a log file, it means that the terminal was closed: the
/// default action stays, even if input and outputs are redirected. `nohup` protects this process,
/// and the commands that it starts, from that.
#[cfg(unix)]
fn live_through_hangup(log_file: Option<LogFile>) {
    use std::io::IsTerminal;
    use tokio::signal::unix::{SignalKind, signal};
    let in_terminal = std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal();
    if log_file.is_none() && (in_terminal || is_hangup_ignored()) {
        return;
    }
    // Registered here, not when the task is first scheduled.
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return tracing::error!("SIGHUP cannot be waited for: {error}"),
    };
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if let Some(log_file) = &log_file {
                log_file.reopen();
            }
        }
    });
}

/// Whether SIGHUP was ignored when this process began, as under `nohup`. Commands that we start
/// inherit that, but not our handler. Only known on Linux.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
fn live_through_hangup(_: Option<LogFile>) {}

/// Waits for Ctrl-C; on Unix also for SIGTERM.
async fn stop_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Connects to the store. The embedded store gets its schema at once, because nobody else creates
/// it. Its file must exist: a new database has nobody to erase and nothing to back up, and
/// reporting success would be wrong.
pub(super) async fn connect(global: &GlobalArgs, config: &Config) -> anyhow::Result<Store> {
    let store = Store::connect_existing(&global.db_url, config.database.options()).await?;
    with_schema(store).await
}

/// As [`connect`], for commands that fill a database: the file may be new.
pub(super) async fn connect_or_create(
    global: &GlobalArgs,
    config: &Config,
) -> anyhow::Result<Store> {
    let store = Store::connect(&global.db_url, config.database.options()).await?;
    with_schema(store).await
}

async fn with_schema(store: Store) -> anyhow::Result<Store> {
    if store.kind() == StoreKind::Sqlite {
        store.migrate().await?;
    }
    check_schema(&store).await?;
    Ok(store)
}

/// As [`connect`], with retries; without `write`, nothing is written.
pub(super) async fn connect_patiently(
    global: &GlobalArgs,
    config: &Config,
    retry: &Retry,
    write: bool,
) -> anyhow::Result<Store> {
    // Without a context: what fails here says by itself that it is the connection.
    let store = retry
        .run("connect to the database", || {
            Store::connect_existing(&global.db_url, config.database.options())
        })
        .await?;
    if store.kind() == StoreKind::Sqlite && write {
        store.migrate().await?;
    }
    check_schema(&store).await?;
    Ok(store)
}

pub(super) async fn check_schema(store: &Store) -> anyhow::Result<()> {
    let pending = store.pending_migrations().await?;
    anyhow::ensure!(
        pending.is_empty(),
        "the schema lacks {} migrations ({}): run `twotower migrate`",
        pending.len(),
        pending.join(", ")
    );
    Ok(())
}

async fn import(
    args: &ImportArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    import::check(args)?;
    let store = connect_or_create(global, config).await?;
    let progress = Mutex::new(Progress::start("import", 0));
    let report = import::run(&store, args, interrupt, &|rows, file| {
        if let Ok(mut progress) = progress.lock() {
            progress.set(rows, file);
        }
    })
    .await?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish("read");
    }
    print(global.json, &report, &report.to_string())?;
    Ok(report.something_of_each()?)
}

async fn serve(store: Store, args: ServeArgs, config: &Config) -> anyhow::Result<()> {
    let store = store.with_source(&config.source).await?;
    // Not in the log, which others may read: the address lets its reader act as any user.
    let console = |address: &str| put(&format!("the console is at {address}\n"));
    serve::run(store, args.into_config(config)?, console, async {
        if let Err(error) = stop_signal().await {
            tracing::error!("signals cannot be waited for: {error}");
        }
    })
    .await
}

/// Logs the line that scripts look for, unless a result could not be written.
pub(super) fn done(command: &str) {
    if !lost() {
        tracing::info!("{command} completed successfully");
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_that_is_ignored_is_known_by_its_bit() {
        let status = |mask: &str| format!("Name:\ttwotower\nSigBlk:\t0001\nSigIgn:\t{mask}\n");
        for (mask, ignored) in [
            ("0000000000000001", true),
            ("0000000000001001", true),
            ("0000000000001000", false),
            ("0000000000000002", false),
            ("none", false),
        ] {
            assert_eq!(ignores_hangup(&status(mask)), ignored, "{mask}");
        }
        assert!(!ignores_hangup(""));
    }
}
