use crate::{embed, generate, prepare};
use clap::{Parser, Subcommand};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use thiserror::Error;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Training shards and embeddings past one machine, on DataFusion and Ballista.
#[derive(Debug, Parser)]
#[command(name = "twotower-scale", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sort likes and skips into the shards that `twotower train --data` reads
    Prepare(Box<prepare::Arguments>),
    /// Embed videos and users with a model into the files that `twotower load` reads
    Embed(Box<embed::Arguments>),
    /// Run the scheduler of a Ballista cluster
    #[cfg(feature = "ballista")]
    Scheduler(crate::cluster::SchedulerArguments),
    /// Run one executor of a Ballista cluster
    #[cfg(feature = "ballista")]
    Executor(crate::cluster::ExecutorArguments),
    /// Write made-up videos, likes and skips, for measuring
    #[command(hide = true)]
    Generate(generate::Arguments),
}

/// Exit code of a run that was asked to stop, as that of `twotower`.
const INTERRUPTED: u8 = 130;

/// Somebody asked to stop.
#[derive(Debug, Error)]
#[error("interrupted: nothing of the result is there; run it again to begin again")]
struct Interrupted;

/// Runs one command; exit code 0, or 1 (130 if it was asked to stop) after a message on standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    log();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Prepare(arguments) => until_stopped(prepare::run(&arguments)).await,
            Command::Embed(arguments) => until_stopped(embed::run(&arguments)).await,
            #[cfg(feature = "ballista")]
            Command::Scheduler(arguments) => crate::cluster::schedule(&arguments).await,
            #[cfg(feature = "ballista")]
            Command::Executor(arguments) => crate::cluster::execute(&arguments).await,
            Command::Generate(arguments) => generate::run(&arguments),
        }
    });
    // Threads that are in the middle of something are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Interrupted>() {
                ExitCode::from(INTERRUPTED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Does `work`, and gives it up at Ctrl-C or SIGTERM: what it has begun goes as it is dropped.
async fn until_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        done = work => done,
        asked = stop_signal() => Err(match asked {
            Ok(()) => Interrupted.into(),
            Err(error) => anyhow::Error::new(error).context("wait for signals"),
        }),
    }
}

async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

/// Log lines to standard error; `RUST_LOG` says which.
fn log() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,twotower_scale=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
