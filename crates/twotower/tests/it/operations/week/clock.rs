//! The wall clock of programs that a test starts.

use crate::preload::Preload;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that runs like the real one, ahead of it.
pub(super) struct Clock {
    library: Preload,
    file: tempfile::NamedTempFile,
    shift: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::Builder::new()
            // The database server runs as another user.
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile()
            .unwrap();
        let library = Preload::build("operations/week/clock.c");
        let mut clock = Self {
            library,
            file,
            shift: Duration::ZERO,
        };
        clock.write();
        clock
    }

    pub(super) fn environment(&self) -> [(&'static str, &Path); 2] {
        [
            ("LD_PRELOAD", &self.library.path),
            ("TWOTOWER_TEST_CLOCK", self.file.path()),
        ]
    }

    pub(super) fn rule(&self, command: &mut Command) {
        command.envs(self.environment());
    }

    pub(super) fn now(&self) -> SystemTime {
        SystemTime::now() + self.shift
    }

    /// Moves the clock forward.
    pub(super) fn set(&mut self, at: SystemTime) {
        let ahead = at
            .duration_since(self.now())
            .expect("a clock that runs forward");
        self.shift += ahead;
        self.write();
    }

    fn write(&mut self) {
        use std::os::unix::fs::FileExt;
        let us = self.shift.as_micros() as i64;
        self.file
            .as_file()
            .write_all_at(&us.to_ne_bytes(), 0)
            .unwrap();
        self.file.flush().unwrap();
    }
}

/// Seconds since 1970.
pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn programs_and_the_database_follow_the_clock() {
    let mut clock = Clock::new();
    let mut server = crate::supervised::Supervised::start(&clock.environment());
    let (url, _) = server.next_start();
    let read = |clock: &Clock| {
        let database = crate::support::sql(&url, "select extract(epoch from now())::bigint");
        let mut date = Command::new("date");
        clock.rule(date.arg("+%s"));
        let program = String::from_utf8(date.output().unwrap().stdout).unwrap();
        [database, program].map(|text| text.trim().parse::<u64>().unwrap())
    };
    for days in [1, 6] {
        clock.set(clock.now() + Duration::from_hours(24 * days));
        let now = seconds(clock.now());
        for told in read(&clock) {
            assert!((now..now + 5).contains(&told), "{told}, and it is {now}");
        }
    }
}
