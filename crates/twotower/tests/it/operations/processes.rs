//! Processes that a test has started, and their children.

use crate::support::{psql_command, sql};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Polls until `look` returns something.
pub(super) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a command and captures its output.
pub(super) fn start(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

pub(super) fn send(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Child processes of `pid`.
pub(super) fn children_of(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|&number: &u32| {
            // State and parent follow the name, which is in parentheses.
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let fields = stat.rsplit(')').next().unwrap_or_default();
            fields.split_whitespace().nth(1) == Some(&pid.to_string())
        })
        .collect()
}

/// The child of `parent` that runs `twotower … WORDS`.
pub(super) fn child_running(parent: u32, words: &str) -> Option<u32> {
    children_of(parent).into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .contains(words)
    })
}

pub(super) fn is_alive(pid: u32) -> bool {
    // A process that has not been reaped yet is still listed.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|it| it.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

pub(super) fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that accepts connections and never answers: a hung database.
pub(super) fn silent_database() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "postgresql://postgres@{}/postgres",
        listener.local_addr().unwrap()
    );
    (listener, url)
}

/// The complete lines of a file, each a JSON object; empty if there is no file.
pub(super) fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// Locks a table until it is dropped.
pub(super) struct Locked {
    session: Child,
    url: String,
    table: &'static str,
}

impl Locked {
    /// Blocks writes to vectors.
    pub(super) fn vectors(url: &str) -> Self {
        Self::table(url, "video_embeddings")
    }

    /// Blocks writes to a table.
    pub(super) fn table(url: &str, table: &'static str) -> Self {
        Self::new(url, table, "EXCLUSIVE")
    }

    /// Blocks reads too.
    pub(super) fn from_readers(url: &str, table: &'static str) -> Self {
        Self::new(url, table, "ACCESS EXCLUSIVE")
    }

    fn new(url: &str, table: &'static str, mode: &str) -> Self {
        let lock = format!("BEGIN; LOCK TABLE {table} IN {mode} MODE; SELECT pg_sleep(60)");
        let session = psql_command(url, &lock).spawn().unwrap();
        let locked = Self {
            session,
            url: url.into(),
            table,
        };
        locked.wait("mode LIKE '%ExclusiveLock' AND granted");
        locked
    }

    pub(super) fn wait_for_somebody(&self) {
        self.wait("NOT granted");
    }

    fn wait(&self, which: &str) {
        let count = format!(
            "SELECT count(*) FROM pg_locks WHERE relation = '{}'::regclass AND {which}",
            self.table
        );
        wait_for(which, || (sql(&self.url, &count) != "0").then_some(()));
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE {} IN %pg_sleep(60)' \
             AND datname = current_database() AND pid <> pg_backend_pid()",
            self.table
        );
        sql(&self.url, &end);
        let _ = self.session.wait();
    }
}
