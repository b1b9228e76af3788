//! Commands of the program `twotower-scale`, which contains the engines for many machines and is
//! built separately.

use super::args::{GlobalArgs, Scale};
use super::output::put;
use anyhow::{Context, anyhow};
use clap::Args;
use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Name of the program.
const PROGRAM: &str = "twotower-scale";

/// Arguments that are handed on as they are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScaleArgs {
    /// Arguments of the command; where twotower-scale is installed, `--help` lists them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub(crate) arguments: Vec<OsString>,
}

/// Replaces this process by `twotower-scale COMMAND ARGUMENTS…`, found beside this program or on
/// the PATH. Returns only if that fails.
pub(super) fn run(command: &Scale, global: &GlobalArgs) -> anyhow::Result<()> {
    let (command, args) = match command {
        Scale::Prepare(args) => ("prepare", args),
        Scale::Embed(args) => ("embed", args),
        Scale::Scheduler(args) => ("scheduler", args),
        Scale::Executor(args) => ("executor", args),
    };
    let this = std::env::current_exe().context("find this program")?;
    let beside = this.with_file_name(format!("{PROGRAM}{EXE_SUFFIX}"));
    let program = if beside.is_file() {
        beside
    } else {
        PathBuf::from(PROGRAM)
    };
    let error = Command::new(&program)
        .arg(command)
        .args(&args.arguments)
        .env("DATABASE_URL", &global.db_url)
        .env("TWOTOWER_PROGRAM", &this)
        .exec();
    let asks = |argument: &OsString| argument == "--help" || argument == "-h";
    match error.kind() {
        ErrorKind::NotFound if args.arguments.iter().any(asks) => {
            put(&format!(
                "Usage: twotower {command} [ARGUMENTS]...\n\nThe program {PROGRAM}, which lists them, is not installed: see docs/scaling.md\n"
            ));
            Ok(())
        }
        ErrorKind::NotFound => Err(anyhow!(
            "`twotower {command}` is done by the program {PROGRAM}, which is neither beside {} nor on the PATH. It brings Apache DataFusion and \
             Ballista and is built apart, in the source's folder `scale`: `cargo build --release --locked`, then copy \
             target/release/{PROGRAM} beside twotower",
            this.display()
        )),
        _ => Err(error).with_context(|| format!("run {}", program.display())),
    }
}
