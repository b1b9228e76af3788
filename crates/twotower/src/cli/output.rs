use super::args::{GlobalArgs, LogFormat};
use crate::jobs::describe_holder;
use crate::log_file::LogFile;
use crate::log_lines::LogLines;
use anyhow::Context;
use serde_json::json;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use twotower_store::LeaseHolder;

/// The destinations of log lines.
pub(super) struct Logging {
    /// All log lines, buffered.
    pub(super) lines: LogLines,
    /// The file, if one is named.
    ///
    /// # Errors
    /// If the file cannot be opened. Lines go to standard error then.
    pub(super) file: anyhow::Result<Option<LogFile>>,
}

/// Sends log lines to standard error, so that standard output holds only results; or to a file, and
/// errors to both.
pub(super) fn start_logging(global: &GlobalArgs) -> Logging {
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
    let terminal = io::stderr().is_terminal();
    let on_stderr = match global.log_format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !terminal => Style::Timed,
        LogFormat::Auto | LogFormat::Human => Style::Plain { colours: terminal },
    };
    let in_file = match global.log_format {
        LogFormat::Human => Style::Timed,
        LogFormat::Auto | LogFormat::Json => Style::Json,
    };
    let (style, to, errors) = match &file {
        Ok(Some(file)) => {
            let errors = lines(on_stderr, io::stderr).with_filter(LevelFilter::ERROR);
            (in_file, BoxMakeWriter::new(file.clone()), Some(errors))
        }
        Ok(None) | Err(_) => (on_stderr, BoxMakeWriter::new(io::stderr), None),
    };
    let to = LogLines::new(to);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines(style, to.clone()))
        .with(errors)
        .init();
    Logging { lines: to, file }
}

/// Format of log lines.
#[derive(Clone, Copy)]
enum Style {
    /// One JSON object per line.
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
        // Otherwise it would report a line that cannot be written on standard error, and panic if
        // that is what cannot be written to.
        .log_internal_errors(false)
        .with_target(false);
    match style {
        Style::Json => lines.json().boxed(),
        Style::Timed => lines.with_ansi(false).boxed(),
        Style::Plain { colours } => lines.without_time().with_ansi(colours).boxed(),
    }
}

/// Whether a write to standard output failed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints the result: JSON if asked for, else `text`.
pub(super) fn print(json: bool, value: &impl serde::Serialize, text: &str) -> anyhow::Result<()> {
    if json {
        put(&format!("{}\n", serde_json::to_string_pretty(value)?));
    } else if !text.is_empty() {
        put(&format!("{text}\n"));
    }
    Ok(())
}

/// JSON and text of a job that did nothing because another process publishes. `untouched` says what
/// was not done.
pub(super) fn held(holder: &LeaseHolder, untouched: &str) -> (serde_json::Value, String) {
    (
        json!({ "held_by": holder }),
        format!("{untouched}: {}", describe_holder(holder)),
    )
}

/// Prints what [`held`] returns.
pub(super) fn print_held(json: bool, holder: &LeaseHolder, untouched: &str) -> anyhow::Result<()> {
    let (value, text) = held(holder, untouched);
    print(json, &value, &text)
}

/// Writes to standard output. If that fails, the work of the command is done all the same: the
/// command runs to its end, and [`lost`] makes it fail.
pub(super) fn put(text: &str) {
    if let Err(error) = write(text, &mut io::stdout().lock()) {
        LOST.store(true, Ordering::Relaxed);
        tracing::error!(
            "the result cannot be written to standard output ({error}), so that it is lost or cut off; what the command has done is done"
        );
    }
}

/// Whether a [`put`] failed.
pub(super) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// A reader that has closed the pipe, as `head` does, has read enough: that is no error.
fn write(text: &str, to: &mut impl Write) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// An error with its causes, the outermost first. Many errors of libraries repeat their cause in
/// their own text, which is not printed twice.
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

    /// Accepts no bytes.
    struct Closed(ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_who_has_gone_is_no_error() {
        assert!(write("x", &mut Closed(ErrorKind::BrokenPipe)).is_ok());
        let full = write("x", &mut Closed(ErrorKind::StorageFull));
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn no_cause_is_told_twice() {
        let error = anyhow!("disk full")
            .context("write x: disk full")
            .context("save");
        assert_eq!(said(&error), "save: write x: disk full");
        assert_eq!(said(&anyhow!("alone")), "alone");
    }

    /// Otherwise the cause would be printed twice, if the message goes on after it.
    #[test]
    fn an_error_that_says_its_cause_does_not_hand_it_on() {
        use crate::config::Config;
        use crate::jobs::storage::trusted_keys;
        use crate::operations::RunError;
        use std::path::PathBuf;
        use twotower_core::train::TrainError;
        use twotower_store::BackupError;

        let full = || io::Error::from(ErrorKind::StorageFull);
        let config = |text: &str| Config::parse(text, "t.toml".as_ref()).unwrap_err();
        let path = || PathBuf::from("file");
        let errors: [Box<dyn std::error::Error>; 7] = [
            Box::new(config("[hyperparameters]\nembedding_dim = 0")),
            Box::new(config("[schedule]\nupdate = \"now and then\"")),
            Box::new(config("[serve]\ncors_origins = [\"app.example\"]")),
            Box::new(trusted_keys(&["key".into()]).unwrap_err()),
            Box::new(BackupError::Io {
                path: path(),
                cause: full(),
            }),
            Box::new(RunError::Progress {
                path: path(),
                cause: full(),
            }),
            Box::new(TrainError::from(full())),
        ];
        for error in errors {
            assert!(error.source().is_none(), "{error}");
        }
    }
}
