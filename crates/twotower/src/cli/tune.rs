//! `twotower tune`.

use super::args::{DataArgs, GlobalArgs};
use super::commands::connect;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::jobs::{self, TuneOptions};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `twotower tune`. Hyperparameters come from the configuration file, then from the defaults.
#[derive(Debug, Clone, Args)]
pub(crate) struct TuneArgs {
    /// Number of trials: the configuration as it is, and others drawn at random
    #[arg(long, value_name = "N", default_value_t = 27, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=10_000))]
    pub(crate) trials: usize,

    /// Time after which the best trial so far is taken, as 90s, 30m or 2h
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub(crate) budget: Duration,

    /// Seed of the random draw; training has the seed of the configuration
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Configuration file to write, for `train --config`
    #[arg(long, value_name = "FILE", default_value = "tuned.toml")]
    pub(crate) output: PathBuf,

    /// Replace the output if it exists already
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Folder for the state of the search [default: tune in the folder of models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Continue a search that was killed, interrupted or out of time. Data, configuration, --trials and --seed must be the same
    #[arg(long)]
    pub(crate) resume: bool,

    #[command(flatten)]
    pub(crate) data: DataArgs,
}

impl TuneArgs {
    /// The options: flags override the configuration.
    pub(crate) fn options(&self, config: &Config) -> TuneOptions {
        let mut config = config.clone();
        config.training = self.data.over(&config.training);
        let state_dir = self.state_dir.clone();
        TuneOptions {
            state_dir: state_dir.unwrap_or_else(|| config.training.output_dir.join("tune")),
            config,
            trials: self.trials,
            budget: self.budget,
            seed: self.seed,
            output: self.output.clone(),
            overwrite: self.overwrite,
            resume: self.resume,
        }
    }
}

/// A whole number with its unit: `90s`, `30m`, `2h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let product = number
        .zip(seconds)
        .and_then(|(n, unit)| n.checked_mul(unit));
    let duration = product.map(Duration::from_secs);
    duration.ok_or_else(|| "expected a whole number with s, m or h, as in 30m".to_owned())
}

pub(super) async fn run(
    args: &TuneArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let store = connect(global, config).await?;
    let report = jobs::tune(&store, &args.options(config), interrupt).await?;
    print(global.json, &json!({ "tune": report }), &report.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command, Job};
    use super::*;
    use clap::Parser;
    use std::path::Path;
    use twotower_core::split::SplitKind;

    #[test]
    fn durations() {
        let seconds = |text: &str| parse_duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("2h"), Ok(7200));
        for wrong in [
            "",
            "30",
            "m",
            "1.5h",
            "-1m",
            "30 m",
            "30min",
            "5日",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_override_the_configuration_and_the_folder_of_models_holds_the_state() {
        let options = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::Job(Job::Tune(args)) = cli.command else {
                panic!("not tune")
            };
            let text = "[hyperparameters]\nepochs = 3\n[training]\noutput_dir = \"m\"\nthreads = 5";
            args.options(&Config::parse(text, Path::new("x.toml")).unwrap())
        };
        let plain = options("twotower tune");
        assert_eq!(plain.state_dir, Path::new("m/tune"));
        assert_eq!(plain.config.hyperparameters.epochs, 3);
        assert_eq!((plain.trials, plain.budget.as_secs()), (27, 1800));
        assert_eq!(plain.config.training.threads, 5);
        let flags = options("twotower tune --split llo --threads 1 --state-dir s --budget 1h");
        assert_eq!(flags.state_dir, Path::new("s"));
        assert_eq!(flags.config.training.split, SplitKind::Llo);
        assert_eq!(
            (flags.config.training.threads, flags.budget.as_secs()),
            (1, 3600)
        );
    }
}
