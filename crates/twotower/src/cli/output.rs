use super::args::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error, so that results alone stand on standard output.
pub(super) fn start_logging(verbose: u8, format: LogFormat) {
    let default = match verbose {
        0 => "warn,twotower=info,twotower_store=info",
        1 => "info,twotower=debug,twotower_store=debug",
        _ => "debug",
    };
    let filter =
        EnvFilter::try_from_env("TWOTOWER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Auto if !terminal => lines.with_ansi(false).init(),
        LogFormat::Auto | LogFormat::Human => lines.without_time().with_ansi(terminal).init(),
    }
}

/// Prints the result: JSON if asked for, else `text`.
pub(super) fn print(json: bool, value: &impl serde::Serialize, text: &str) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else if !text.is_empty() {
        println!("{text}");
    }
    Ok(())
}

/// An error with its causes, the outermost first. Many errors of libraries repeat their cause in their own words: what has
/// been said is not said again.
pub(super) fn said(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn no_cause_is_told_twice() {
        let error = anyhow!("disk full")
            .context("write x: disk full")
            .context("save");
        assert_eq!(said(&error), "save: write x: disk full");
        assert_eq!(said(&anyhow!("alone")), "alone");
    }
}
