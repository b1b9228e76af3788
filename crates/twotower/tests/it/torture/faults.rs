//! Kills and failures at a chosen system call of an unchanged binary, by the preloaded library of `faults.c`.

use crate::preload::Preload;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// What is done at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: calls are counted.
    Count,
    /// The process dies before the call.
    Kill,
    /// The process dies when half is written.
    Torn,
    /// The call fails, this once.
    Error(i32),
    /// It fails, and so do all that follow.
    Errors(i32),
    /// Another process dies.
    KillOther(u32),
}

pub(super) const DISK_FULL: i32 = 28;
pub(super) const IO_ERROR: i32 = 5;

/// What a disk may do to a program that writes, and the program's end; as different as can be one after the other.
pub(super) const EVERY_FAULT: [Action; 6] = [
    Action::Error(IO_ERROR),
    Action::Errors(DISK_FULL),
    Action::Kill,
    Action::Errors(IO_ERROR),
    Action::Torn,
    Action::Error(DISK_FULL),
];

/// Sockets, or what lies under a path.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// Beginnings, with colons between.
    targets: String,
    /// Calls that read count as well.
    reads: bool,
}

impl Watched {
    pub(super) fn sockets() -> Self {
        Self {
            targets: "socket".into(),
            reads: false,
        }
    }

    pub(super) fn below(path: &Path) -> Self {
        Self {
            targets: path.display().to_string(),
            reads: false,
        }
    }

    /// Also where it is read alone.
    pub(super) fn reading(path: &Path) -> Self {
        Self {
            reads: true,
            ..Self::below(path)
        }
    }

    pub(super) fn and(self, other: &Self) -> Self {
        Self {
            targets: format!("{}:{}", self.targets, other.targets),
            reads: self.reads || other.reads,
        }
    }
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The call at which something was done.
    pub(super) hit: Option<String>,
    /// Calls in all, if the process lived to tell.
    pub(super) total: u64,
}

/// Lets `command` run into `action` at its call number `at`, and gives back what tells of it afterwards.
pub(super) fn inject(command: &mut Command, watched: &Watched, action: Action, at: u64) -> Log {
    let log = Log(tempfile::NamedTempFile::new().unwrap());
    let (name, error, other) = match action {
        Action::Count => ("count", 0, 0),
        Action::Kill => ("kill", 0, 0),
        Action::Torn => ("torn", 0, 0),
        Action::Error(number) => ("error", number, 0),
        Action::Errors(number) => ("errors", number, 0),
        Action::KillOther(pid) => ("kill-other", 0, pid),
    };
    command
        .env("LD_PRELOAD", library())
        .env("TORTURE_WATCH", &watched.targets)
        .env("TORTURE_AT", at.to_string())
        .env("TORTURE_ACTION", name)
        .env("TORTURE_ERRNO", error.to_string())
        .env("TORTURE_OTHER", other.to_string())
        .env("TORTURE_LOG", log.0.path());
    if watched.reads {
        command.env("TORTURE_READS", "1");
    }
    log
}

#[derive(Debug)]
pub(super) struct Log(tempfile::NamedTempFile);

impl Log {
    pub(super) fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        for line in std::fs::read_to_string(self.0.path()).unwrap().lines() {
            match line.split_once(' ') {
                Some(("hit", call)) if seen.hit.is_none() => seen.hit = Some(call.to_owned()),
                Some(("total", total)) => seen.total = total.parse().unwrap(),
                _ => {}
            }
        }
        seen
    }
}

pub(super) fn library() -> &'static Path {
    static LIBRARY: LazyLock<Preload> = LazyLock::new(|| Preload::build("torture/faults.c"));
    &LIBRARY.path
}
