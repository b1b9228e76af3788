use crate::{embed, generate, prepare};
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
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

/// Runs one command; exit code 0, or 1 after a message on standard error.
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
            Command::Prepare(arguments) => prepare::run(&arguments).await,
            Command::Embed(arguments) => embed::run(&arguments).await,
            #[cfg(feature = "ballista")]
            Command::Scheduler(arguments) => crate::cluster::schedule(&arguments).await,
            #[cfg(feature = "ballista")]
            Command::Executor(arguments) => crate::cluster::execute(&arguments).await,
            Command::Generate(arguments) => generate::run(&arguments),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
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
