//! Runs this program as its own child process: each step of a job is a command of its own, so that
//! one that crashes, hangs or exhausts memory ends alone.

use super::Place;
use crate::interrupt::Interrupt;
use crate::log_file::LogFile;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How to call `twotower`.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    /// Arguments before the command.
    flags: Vec<OsString>,
    db_url: String,
    log_file: Option<LogFile>,
}

impl fmt::Debug for Program {
    /// Omits the address, which holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// The program at `path`, for the installation `place`. `flags` are given to every command,
    /// besides its configuration file.
    pub fn new(
        path: PathBuf,
        place: &Place,
        mut flags: Vec<OsString>,
        log_file: Option<LogFile>,
    ) -> Self {
        if let Some(file) = &place.config_file {
            flags.extend(["--config".into(), file.into()]);
        }
        Self {
            path,
            flags,
            db_url: place.db_url.clone(),
            log_file,
        }
    }

    /// `twotower WORDS…`. It stops when this process ends: the caller keeps its standard input open
    /// and writes nothing to it.
    pub(super) fn command<S: Into<OsString>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.flags)
            .args(words.into_iter().map(Into::into))
            .arg("--supervised")
            // In the environment, because every user of the machine can read arguments.
            .env("DATABASE_URL", &self.db_url)
            .stdin(Stdio::piped());
        if let Some(log_file) = &self.log_file {
            command.env("TWOTOWER_LOG_FILE", log_file.path());
        }
        command
    }

    /// How often the log file was reopened: children are told to reopen it as well.
    pub(super) fn log_reopened(&self) -> u32 {
        self.log_file.as_ref().map_or(0, LogFile::times_reopened)
    }
}

/// A message to a child.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChildSignal {
    /// Stop after the current step.
    Stop,
    /// Reopen the log file.
    ReopenLog,
}

/// Sends a message to a child. One that has exited ignores it.
#[cfg(unix)]
pub(super) fn send_signal(child: &mut Child, signal: ChildSignal) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match signal {
        ChildSignal::Stop => Signal::TERM,
        ChildSignal::ReopenLog => Signal::HUP,
    };
    let pid = Pid::from_child(child);
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "process {} hears no signal", child.id());
    }
}

/// Sends a message to a child. Without signals, stopping is the only one.
#[cfg(not(unix))]
pub(super) fn send_signal(child: &mut Child, signal: ChildSignal) {
    if let ChildSignal::Stop = signal {
        let _ = child.kill();
    }
}

/// Called in a child: sets `interrupt` once the parent is gone, however it ended, so that the child
/// does not keep running unattended.
pub(crate) fn stop_with_supervisor(interrupt: &Interrupt) {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let mut byte = [0];
        // Nothing is ever written: the read returns when the other end is closed.
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        tracing::warn!(
            "the process that started this one is gone: stopping after the current step"
        );
        interrupt.set();
    });
}
