use super::args::{GlobalArgs, LogFormat};
use crate::log_file::LogFile;
use anyhow::Context;
use std::io::IsTerminal;
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Sends log lines to standard error, so that results alone stand on standard output; or to a file, and errors to both.
///
/// # Errors
/// If the file cannot be opened. Lines go to standard error then.
pub(super) fn start_logging(global: &GlobalArgs) -> anyhow::Result<Option<LogFile>> {
    let default = match global.verbose {
        0 => "warn,twotower=info,twotower_store=info",
        1 => "info,twotower=debug,twotower_store=debug",
        _ => "debug",
    };
    let filter =
        EnvFilter::try_from_env("TWOTOWER_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let opened = global.log_file.as_deref().map(|path| {
        LogFile::open(path).with_context(|| {
            format!(
                "open the log file {}: name one in a folder that this user may write to",
                path.display()
            )
        })
    });
    let file = opened.transpose();
    let terminal = std::io::stderr().is_terminal();
    let style = match global.log_format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !terminal => Style::Timed,
        LogFormat::Auto | LogFormat::Human => Style::Plain { colours: terminal },
    };
    let level = match &file {
        Ok(Some(_)) => LevelFilter::ERROR,
        _ => LevelFilter::TRACE,
    };
    let to_file = file.as_ref().ok().and_then(Option::as_ref).map(|file| {
        let style = match global.log_format {
            LogFormat::Human => Style::Timed,
            LogFormat::Auto | LogFormat::Json => Style::Json,
        };
        lines(style, file.clone())
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(to_file)
        .with(lines(style, std::io::stderr).with_filter(level))
        .init();
    file
}

/// How lines look.
#[derive(Clone, Copy)]
enum Style {
    /// One object a line.
    Json,
    /// With time and level.
    Timed,
    /// With the level.
    Plain { colours: bool },
}

fn lines<S, W>(style: Style, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_target(false);
    match style {
        Style::Json => lines.json().boxed(),
        Style::Timed => lines.with_ansi(false).boxed(),
        Style::Plain { colours } => lines.without_time().with_ansi(colours).boxed(),
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
