//! Progress of long work: a bar on a terminal, a log line per interval elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two lines without a terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one piece of long work.
#[derive(Debug)]
pub(crate) struct Progress {
    title: String,
    bar: Option<ProgressBar>,
    total: u64,
    /// Amount done by a run that was interrupted before this one.
    before: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts to show progress under `title`. `total` is 0 if it is not known.
    pub(crate) fn start(title: impl Into<String>, total: u64) -> Self {
        let title = title.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(
                (total > 0).then_some(total),
                ProgressDrawTarget::stderr_with_hz(10),
            );
            let template = if total > 0 {
                "{prefix:>10} [{bar:28}] {percent:>3}% {msg} {eta} left"
            } else {
                "{prefix:>10} {spinner} {pos} {msg}"
            };
            // The templates are constants of this file; if one is invalid, the default style is
            // used.
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
            bar.set_prefix(title.clone());
            bar
        });
        let now = Instant::now();
        Self {
            title,
            bar,
            total,
            before: 0,
            started: now,
            last_line: now,
        }
    }

    /// Continues a run that was interrupted after this much of the total. Rate and remaining time
    /// do not count what that run did.
    #[must_use]
    pub(crate) fn resumed(self, before: u64) -> Self {
        if let Some(bar) = &self.bar {
            bar.set_position(before);
            bar.reset_eta();
        }
        Self { before, ..self }
    }

    /// Units per second after `elapsed` seconds, when `done` of the total is done.
    fn rate(&self, done: u64, elapsed: f64) -> f64 {
        done.saturating_sub(self.before) as f64 / elapsed.max(1e-9)
    }

    /// Shows that `done` of the total is done.
    pub(crate) fn set(&mut self, done: u64, message: &str) {
        let rate = self.rate(done, self.started.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(format!("{rate:.0}/s {message}"));
            }
            None if self.last_line.elapsed() >= INTERVAL => {
                self.last_line = Instant::now();
                if self.total > 0 {
                    let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
                    tracing::info!(
                        "{}: {done} of {} ({rate:.0}/s, {left:.0} s left) {message}",
                        self.title,
                        self.total
                    );
                } else {
                    tracing::info!("{}: {done} ({rate:.0}/s) {message}", self.title);
                }
            }
            None => {}
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.suspend(|| tracing::info!("{line}"));
        } else {
            tracing::info!("{line}");
        }
    }

    /// Removes the bar and reports the result.
    pub(crate) fn finish(self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        tracing::info!(
            "{}: {line} ({:.1} s)",
            self.title,
            self.started.elapsed().as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_is_no_speed() {
        let rate = |progress: Progress| progress.rate(1_000, 10.0);
        let start = || Progress::start("training", 2_000);
        assert!((rate(start()) - 100.0).abs() < 1e-9);
        assert!((rate(start().resumed(900)) - 10.0).abs() < 1e-9);
        assert!(rate(start().resumed(2_000)) < 1e-9);
    }
}
