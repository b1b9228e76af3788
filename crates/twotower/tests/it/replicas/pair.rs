//! A PostgreSQL server and a streaming replica of it, a test's own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// `scripts/test-postgres pair`.
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

    /// From now on a commit waits until the replica shows it.
    pub(super) fn make_synchronous(&mut self) {
        self.have("synchronous");
    }

    /// The primary stops at once, as in a crash.
    pub(super) fn stop_primary(&mut self) {
        self.have("stop-primary");
    }

    /// The replica becomes a primary.
    pub(super) fn promote(&mut self) {
        self.have("promote");
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
        // The end of its input is its signal to stop.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// Host and port of an address.
pub(super) fn place_of(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap()
}
