//! `twotower completions` and `twotower manual`: scripts for shells and pages for `man`, generated
//! from the definitions of the arguments.

use super::args::Cli;
use super::output::print;
use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `twotower completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to write the script for
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Arguments of `twotower manual`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManualArgs {
    /// Folder for the pages, one per command; created if it does not exist
    #[arg(long, value_name = "FOLDER", default_value = "man")]
    pub(crate) output_dir: PathBuf,
}

/// The completion script for `args.shell`.
pub(super) fn completions(args: &CompletionsArgs) -> String {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "twotower", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `twotower.1`, and `twotower-COMMAND.1` for each command. The pages contain no date, so
/// that the same program writes the same bytes.
///
/// # Errors
/// If the folder cannot be written to.
pub(super) fn manual(args: &ManualArgs, json: bool) -> anyhow::Result<()> {
    let folder = &args.output_dir;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("write the manual to {}", folder.display()))?;
    print(
        json,
        &json!({ "folder": folder }),
        &format!("the manual is in {}", folder.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, ValueEnum};

    /// Names of the pages, such as `twotower-models-list.1`.
    fn pages(command: &Command, name: &str) -> Vec<String> {
        let own = command
            .get_subcommands()
            .flat_map(|sub| pages(sub, &format!("{name}-{}", sub.get_name())));
        std::iter::once(format!("{name}.1")).chain(own).collect()
    }

    #[test]
    fn every_shell_is_told_every_command() {
        let command = Cli::command();
        for &shell in Shell::value_variants() {
            let script = completions(&CompletionsArgs { shell });
            for sub in command.get_subcommands() {
                assert!(
                    script.contains(sub.get_name()),
                    "{shell}: {}",
                    sub.get_name()
                );
            }
            assert!(script.contains("db-url"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_page_that_tells_its_flags_and_no_value_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManualArgs {
            output_dir: folder.path().join("man"),
        };
        manual(&args, false).unwrap();
        let mut expected = pages(&Cli::command(), "twotower");
        let mut written: Vec<String> = std::fs::read_dir(&args.output_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        written.sort();
        assert_eq!(written, expected);
        let serve = std::fs::read_to_string(args.output_dir.join("twotower-serve.1")).unwrap();
        assert!(
            serve.contains("metrics\\-listen") && serve.contains("DATABASE_URL"),
            "{serve}"
        );
    }
}
