//! Kills and failures at a chosen system call of an unchanged binary, by the preloaded library of
//! `faults.c`.

use crate::preload::Preload;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// What happens at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: calls are only counted.
    Count,
    /// The process dies before the call.
    Kill,
    /// The process dies after half of the data is written.
    Torn,
    /// Only this call fails.
    Error(i32),
    /// This call and all later ones fail.
    Errors(i32),
    /// Another process is killed.
    KillOther(u32),
    /// Nothing: calls are noted in their order.
    Trace,
}

pub(super) const DISK_FULL: i32 = 28;
pub(super) const IO_ERROR: i32 = 5;

/// All faults of a disk, and kills; consecutive ones are as different as possible.
pub(super) const EVERY_FAULT: [Action; 6] = [
    Action::Error(IO_ERROR),
    Action::Errors(DISK_FULL),
    Action::Kill,
    Action::Errors(IO_ERROR),
    Action::Torn,
    Action::Error(DISK_FULL),
];

/// Sockets, or files below a path.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// Path prefixes, separated by colons.
    targets: String,
    /// Whether reads count as well.
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

    /// Files below `path`, including calls that only read.
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

/// Result of a run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The call at which the action happened.
    pub(super) hit: Option<String>,
    /// Number of calls in all, if the process survived.
    pub(super) total: u64,
}

/// Injects `action` at call number `at` of `command`; returns the file that reports on it
/// afterwards.
pub(super) fn inject(command: &mut Command, watched: &Watched, action: Action, at: u64) -> Log {
    let log = Log(tempfile::NamedTempFile::new().unwrap());
    let (name, error, other) = match action {
        Action::Count => ("count", 0, 0),
        Action::Kill => ("kill", 0, 0),
        Action::Torn => ("torn", 0, 0),
        Action::Error(number) => ("error", number, 0),
        Action::Errors(number) => ("errors", number, 0),
        Action::KillOther(pid) => ("kill-other", 0, pid),
        Action::Trace => ("trace", 0, 0),
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

    /// Names of the calls with their paths, after [`Action::Trace`].
    pub(super) fn calls(&self) -> Vec<(String, PathBuf)> {
        let text = std::fs::read_to_string(self.0.path()).unwrap();
        let calls = text.lines().filter_map(|line| line.strip_prefix("call "));
        calls
            .map(|call| {
                let (name, path) = call.split_once(' ').unwrap();
                (name.to_owned(), path.into())
            })
            .collect()
    }
}

pub(super) fn library() -> &'static Path {
    static LIBRARY: LazyLock<Preload> = LazyLock::new(|| Preload::build("torture/faults.c"));
    &LIBRARY.path
}
