//! This program as its own child: each step of a job is a command of its own, so that one that crashes, hangs or takes all memory ends alone.

use super::Place;
use crate::jobs::Interrupt;
use crate::log_file::LogFile;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How `twotower …` is called.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    /// Before the command.
    flags: Vec<OsString>,
    db_url: String,
    log_file: Option<LogFile>,
}

impl fmt::Debug for Program {
    /// Without the address, which holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// The program `path`, at home where `place` says. `flags` are those of every command, besides its configuration file.
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

    /// `twotower WORDS…`, which stops when this process ends: whoever starts it keeps its standard input open and writes nothing there.
    pub(super) fn command<S: Into<OsString>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.flags)
            .args(words.into_iter().map(Into::into))
            .arg("--supervised")
            // Not among the arguments, which every user of the machine can read.
            .env("DATABASE_URL", &self.db_url)
            .stdin(Stdio::piped());
        if let Some(log_file) = &self.log_file {
            command.env("TWOTOWER_LOG_FILE", log_file.path());
        }
        command
    }

    /// How often the log file was opened again: children are told to do so as well.
    pub(super) fn log_reopened(&self) -> u32 {
        self.log_file.as_ref().map_or(0, LogFile::times_reopened)
    }
}

/// What a child is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// To stop after the current step.
    Stop,
    /// To open the log file again.
    ReopenLog,
}

/// Tells a child. One that has ended already hears nothing.
#[cfg(unix)]
pub(super) fn tell(child: &mut Child, told: Told) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match told {
        Told::Stop => Signal::TERM,
        Told::ReopenLog => Signal::HUP,
    };
    let pid = Pid::from_child(child);
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "process {} hears no signal", child.id());
    }
}

/// Tells a child. Here there is only one thing to say to a process.
#[cfg(not(unix))]
pub(super) fn tell(child: &mut Child, told: Told) {
    if let Told::Stop = told {
        let _ = child.kill();
    }
}

/// In a child: asks to stop once the parent is gone, however it ended, so that nothing goes on that nobody waits for.
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
