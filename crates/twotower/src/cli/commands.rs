use super::alert;
use super::args::{Cli, Command, DemoArgs, EvaluateArgs, GlobalArgs, TrainArgs, UpdateArgs};
use super::backup;
use super::doctor;
use super::erase;
use super::experiment::{self, ExperimentArgs};
use super::maintain;
use super::models::{self, ModelsArgs, RollbackArgs};
use super::output::print;
use super::prune;
use super::restore;
use super::run as run_job;
use super::schedule;
use super::shell;
use super::storage;
use super::tune::TuneArgs;
use crate::config::Config;
use crate::import::{self, ImportArgs};
use crate::jobs::{
    self, Evaluated, Gate, Interrupt, Retry, UpdateMode, UpdateOptions, UpdateReport, Updated,
    describe_holder,
};
use crate::log_file::LogFile;
use crate::operations;
use crate::progress::Progress;
use crate::report::comparison_table;
use crate::serve::{self, ServeArgs};
use anyhow::Context;
use serde_json::json;
use std::sync::Mutex;
use twotower_core::metric::Bootstrap;
use twotower_store::{Store, StoreKind};

/// Runs one command.
pub(super) async fn run(cli: Cli, log_file: Option<LogFile>) -> anyhow::Result<()> {
    let Cli { global, command } = cli;
    #[cfg(unix)]
    if let Some(log_file) = log_file.clone() {
        tokio::spawn(async move {
            if let Err(error) = log_file.reopen_on_hangup().await {
                tracing::error!("SIGHUP cannot be waited for: {error}");
            }
        });
    }
    if let Some(said) = about_itself(&command, &global) {
        return said;
    }
    let config = Config::load(global.config.as_deref())?;
    if let Command::Serve(args) = command {
        let store = connect(&global, &config).await?;
        return serve(store, args, &config).await;
    }
    let interrupt = Interrupt::default();
    let on_signal = interrupt.clone();
    tokio::spawn(async move {
        if let Err(error) = stop_signal().await {
            return tracing::error!("signals cannot be waited for: {error}");
        }
        tracing::warn!("stopping after the current step; press Ctrl-C again to stop at once");
        on_signal.set();
        if stop_signal().await.is_ok() {
            std::process::exit(130);
        }
    });
    if global.supervised {
        operations::stop_with_supervisor(&interrupt);
    }
    match command {
        Command::Demo(args) => demo(args, &config, &global, &interrupt).await,
        Command::Migrate => migrate(&config, &global).await,
        Command::Import(args) => import(&args, &config, &global).await,
        Command::Train(args) => train(&args, &config, &global, &interrupt).await,
        Command::Tune(args) => tune(&args, &config, &global, &interrupt).await,
        Command::Evaluate(args) => evaluate(&args, &config, &global, &interrupt).await,
        Command::Update(args) => update(&args, &config, &global, &interrupt).await,
        Command::Models(ModelsArgs { command }) => {
            let store = connect(&global, &config).await?;
            models::run(command, &store, &config, &global).await?;
            done("models");
            Ok(())
        }
        Command::Rollback(args) => rollback(args, &config, &global).await,
        Command::Experiment(ExperimentArgs { command }) => {
            let store = connect(&global, &config).await?;
            experiment::run(command, &store, &config, &global).await?;
            done("experiment");
            Ok(())
        }
        Command::Publish(args) => {
            storage::publish(&args, &config, &global, &interrupt).await?;
            done("publish");
            Ok(())
        }
        Command::Fetch(args) => {
            storage::fetch(args, &config, &global, &interrupt).await?;
            done("fetch");
            Ok(())
        }
        Command::Keys(args) => {
            storage::keys(&args.command, &config, &global)?;
            done("keys");
            Ok(())
        }
        Command::Erase(args) => {
            erase::run(&args, &config, &global).await?;
            done("erase");
            Ok(())
        }
        Command::Prune(args) => {
            prune::run(&args, &config, &global, &interrupt).await?;
            done("prune");
            Ok(())
        }
        Command::Run(args) => {
            run_job::run(&args, &config, &global, log_file, &interrupt).await?;
            done("run");
            Ok(())
        }
        Command::Schedule(args) => {
            schedule::run(&args, &config, &global, log_file, &interrupt).await?;
            done("schedule");
            Ok(())
        }
        Command::Doctor(args) => {
            doctor::run(&args, &config, &global, &interrupt).await?;
            done("doctor");
            Ok(())
        }
        Command::Alert(args) => {
            alert::run(&args, &config, &global).await?;
            done("alert");
            Ok(())
        }
        Command::Maintain(args) => {
            maintain::run(&args, &config, &global, &interrupt).await?;
            done("maintain");
            Ok(())
        }
        Command::Backup(args) => {
            backup::run(&args, &config, &global, &interrupt).await?;
            done("backup");
            Ok(())
        }
        Command::Restore(args) => {
            restore::run(&args, &config, &global, &interrupt).await?;
            done("restore");
            Ok(())
        }
        Command::Serve(_) | Command::Openapi | Command::Completions(_) | Command::Manual(_) => {
            unreachable!("done above")
        }
    }
}

/// What the program says about itself asks for no configuration. What is redirected to a file ends without the line that says so.
fn about_itself(command: &Command, global: &GlobalArgs) -> Option<anyhow::Result<()>> {
    match command {
        Command::Openapi => print!("{}", serve::openapi_document()),
        Command::Completions(args) => print!("{}", shell::completions(args)),
        Command::Manual(args) => {
            return Some(shell::manual(args, global.json).inspect(|()| done("manual")));
        }
        _ => return None,
    }
    Some(Ok(()))
}

/// Waits for Ctrl-C, and on Unix for SIGTERM.
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

/// Connects to the store. The embedded one gets its schema at once: nobody else would give it one.
async fn connect(global: &GlobalArgs, config: &Config) -> anyhow::Result<Store> {
    let store = Store::connect(&global.db_url, config.database.options()).await?;
    if store.kind() == StoreKind::Sqlite {
        store.migrate().await?;
    }
    check_schema(&store).await?;
    Ok(store)
}

/// Connects as [`connect`] does, with patience, and without writing anything if that is the wish.
pub(super) async fn connect_patiently(
    global: &GlobalArgs,
    config: &Config,
    retry: &Retry,
    write: bool,
) -> anyhow::Result<Store> {
    let store = retry
        .run("connect to the database", || {
            Store::connect(&global.db_url, config.database.options())
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

async fn migrate(config: &Config, global: &GlobalArgs) -> anyhow::Result<()> {
    let store = Store::connect(&global.db_url, config.database.options()).await?;
    let applied = store.migrate().await?;
    let text = if applied.is_empty() {
        "nothing to apply".to_owned()
    } else {
        format!("applied {}", applied.join(", "))
    };
    print(global.json, &json!({ "applied": applied }), &text)?;
    done("migrate");
    Ok(())
}

async fn import(args: &ImportArgs, config: &Config, global: &GlobalArgs) -> anyhow::Result<()> {
    let store = connect(global, config).await?;
    let progress = Mutex::new(Progress::start("import", 0));
    let report = import::run(&store, args, &|rows, file| {
        if let Ok(mut progress) = progress.lock() {
            progress.set(rows, file);
        }
    })
    .await?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish("read");
    }
    print(global.json, &report, &report.to_string())?;
    done("import");
    Ok(())
}

async fn train(
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
            mode: UpdateMode::Activate,
            full: false,
            gate: Gate::of(config),
            force: args.force,
            reason: "train --update-db".into(),
            user_vector_days: config.prune.user_vector_days,
            settings: config.update.clone(),
        };
        let updated = jobs::update(&store, &config.source, &update, interrupt).await?;
        print(
            global.json,
            &json!({ "train": report, "update": update_json(&updated) }),
            &format!("{text}\n{}", update_text(&updated)),
        )?;
    } else {
        print(global.json, &json!({ "train": report }), &text)?;
    }
    done("train");
    Ok(())
}

async fn tune(
    args: &TuneArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let store = connect(global, config).await?;
    let report = jobs::tune(&store, &args.options(config), interrupt).await?;
    print(global.json, &json!({ "tune": report }), &report.to_string())?;
    done("tune");
    Ok(())
}

async fn evaluate(
    args: &EvaluateArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let store = connect(global, config).await?;
    let evaluated =
        jobs::evaluate(&store, &config.source, &args.options(config), interrupt).await?;
    print(global.json, &as_json(&evaluated), &as_text(&evaluated))?;
    done("evaluate");
    Ok(())
}

fn as_json(evaluated: &Evaluated) -> serde_json::Value {
    let recommenders: serde_json::Map<_, _> = evaluated
        .comparison
        .evaluations
        .iter()
        .map(|evaluation| (evaluation.name.clone(), json!(evaluation.summary)))
        .collect();
    json!({
        "model_version": evaluated.version,
        "split": evaluated.split,
        "retrained": evaluated.retrained,
        "recommenders": recommenders,
        "report": evaluated.report,
    })
}

fn as_text(evaluated: &Evaluated) -> String {
    let again = evaluated.retrained.map_or(String::new(), |reason| {
        format!("\n{reason}: the towers were trained afresh for this split")
    });
    format!(
        "{}{again}\nreport: {}",
        comparison_table(&evaluated.comparison, &Bootstrap::default()),
        evaluated.report.display()
    )
}

async fn update(
    args: &UpdateArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let options = args.options(config);
    let retry = Retry::new(options.settings.attempts);
    let store =
        connect_patiently(global, config, &retry, options.mode != UpdateMode::DryRun).await?;
    let updated = jobs::update(&store, &config.source, &options, interrupt).await?;
    print(global.json, &update_json(&updated), &update_text(&updated))?;
    done("update");
    Ok(())
}

fn update_json(updated: &Updated) -> serde_json::Value {
    match updated {
        Updated::Done(report) => json!(report),
        Updated::Held(holder) => json!({ "held_by": holder }),
    }
}

fn update_text(updated: &Updated) -> String {
    match updated {
        Updated::Done(report) => describe(report),
        Updated::Held(holder) => {
            format!("the database was left alone: {}", describe_holder(holder))
        }
    }
}

async fn rollback(args: RollbackArgs, config: &Config, global: &GlobalArgs) -> anyhow::Result<()> {
    let store = connect(global, config).await?;
    models::rollback(args, &store, config, global).await?;
    done("rollback");
    Ok(())
}

fn describe(report: &UpdateReport) -> String {
    let outcome = match report {
        report if report.dry_run => "dry run, nothing was written",
        report if report.activated => "readers were switched to it",
        report if report.active_version == Some(report.version) => "readers see it already",
        _ => "loaded; `twotower models promote` switches readers to it",
    };
    format!(
        "model {} ({outcome}), {:.1} s\nvideos: {}\nusers: {}",
        report.version, report.seconds, report.videos, report.users
    )
}

async fn serve(store: Store, args: ServeArgs, config: &Config) -> anyhow::Result<()> {
    serve::run(store, args.into_config(config)?, async {
        if let Err(error) = stop_signal().await {
            tracing::error!("signals cannot be waited for: {error}");
        }
    })
    .await
}

async fn demo(
    args: DemoArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let store = connect(global, config)
        .await
        .context("open the demo's database")?;
    let mut config = config.clone();
    config.hyperparameters.epochs = args.epochs;
    config.hyperparameters.validate()?;
    // Before minutes of work, so that a port that is taken is known at once.
    let server = if args.no_serve {
        None
    } else {
        Some(serve::Server::bind(store.clone(), args.serve_config(&config)).await?)
    };
    let outcome = jobs::demo(&store, &config, &args.options(), interrupt).await?;
    let text = format!(
        "{}\n{}\n{}",
        as_text(&outcome.evaluated),
        outcome.oracle,
        describe(&outcome.update)
    );
    let oracle = json!(outcome.oracle);
    print(
        global.json,
        &json!({ "evaluate": as_json(&outcome.evaluated), "oracle": oracle, "update": outcome.update }),
        &text,
    )?;
    done("demo");
    let Some(server) = server.filter(|_| !interrupt.is_set()) else {
        return Ok(());
    };
    println!(
        "open http://{} in a browser; Ctrl-C ends it",
        server.address()
    );
    let interrupt = interrupt.clone();
    server
        .serve(async move {
            while !interrupt.is_set() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        })
        .await;
    Ok(())
}

/// The line that scripts look for.
fn done(command: &str) {
    tracing::info!("{command} completed successfully");
}
