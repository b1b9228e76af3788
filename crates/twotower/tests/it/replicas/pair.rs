//! A PostgreSQL server with a streaming replica, for one test alone.

use crate::support::sql;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs `scripts/test-postgres pair`.
pub(super) struct Pair {
    script: Child,
    answers: BufReader<ChildStdout>,
    pub(super) primary: String,
    pub(super) replica: String,
}

impl Pair {
    pub(super) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-postgres");
        let mut script = Command::new(script)
            .arg("pair")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(script.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let (primary, replica) = line.trim().split_once(' ').expect("two addresses");
        Self {
            primary: primary.to_owned(),
            replica: replica.to_owned(),
            script,
            answers,
        }
    }

    /// From now on a commit waits until it is visible on the replica.
    pub(super) fn make_synchronous(&mut self) {
        self.have("synchronous");
    }

    /// Stops the primary at once, like a crash.
    pub(super) fn stop_primary(&mut self) {
        self.have("stop-primary");
    }

    /// Promotes the replica.
    pub(super) fn promote(&mut self) {
        self.have("promote");
    }

    /// Waits until the replica shows everything that has been written so far.
    pub(super) fn wait_for_the_replica(&self) {
        let written = sql(&self.primary, "SELECT pg_current_wal_lsn()");
        let shown = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        let begun = Instant::now();
        while sql(&self.replica, &shown) != "t" {
            assert!(begun.elapsed() < Duration::from_mins(1), "{shown}");
            sleep(Duration::from_millis(20));
        }
    }

    fn have(&mut self, what: &str) {
        let input = self.script.stdin.as_mut().unwrap();
        writeln!(input, "{what}").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done", "{what}");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Closing its input stops the script.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// Host and port of an address.
pub(super) fn place_of(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap()
}
