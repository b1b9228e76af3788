//! A database server for one test alone, restarted when it dies, like a service manager would.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Runs `scripts/test-postgres supervise`.
pub(crate) struct Supervised {
    script: Child,
    starts: BufReader<ChildStdout>,
}

impl Supervised {
    /// With these additional environment variables.
    pub(crate) fn start(environment: &[(&str, &Path)]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-postgres");
        let mut script = Command::new(script)
            .arg("supervise")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let starts = BufReader::new(script.stdout.take().unwrap());
        Self { script, starts }
    }

    /// Waits for the next start; returns address and process id.
    pub(crate) fn next_start(&mut self) -> (String, u32) {
        let mut line = String::new();
        self.starts.read_line(&mut line).unwrap();
        let (address, pid) = line
            .trim()
            .split_once(' ')
            .expect("an address and a process id");
        (address.to_owned(), pid.parse().unwrap())
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Closing its input stops the script.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
