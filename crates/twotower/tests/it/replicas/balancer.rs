//! `HAProxy` with the configuration of `deploy/haproxy`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Debian's path; it is not in every user's PATH.
const PROGRAM: &str = "/usr/sbin/haproxy";

pub(super) struct Balancer {
    process: Child,
    socket: PathBuf,
    /// Host and port for clients of the API.
    pub(super) api: String,
    /// Host and port for clients of the database.
    pub(super) database: String,
}

/// A host and port where nobody listens.
pub(super) fn free_place() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

impl Balancer {
    /// In front of two servers and two databases, the first of which is the primary. It is stopped
    /// when dropped.
    pub(super) fn start(folder: &Path, servers: [&str; 2], databases: [&str; 2]) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: install HAProxy, for example with `sudo apt-get install haproxy`"
        );
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/haproxy/haproxy.cfg");
        let mut text = std::fs::read_to_string(&example).unwrap();
        let (api, database, socket) = (free_place(), free_place(), folder.join("haproxy.sock"));
        let replacements = [
            ("10.0.0.10:8080", api.as_str()),
            ("10.0.0.10:5432", &database),
            ("10.0.0.11:8080", servers[0]),
            ("10.0.0.12:8080", servers[1]),
            ("10.0.0.21:5432", databases[0]),
            ("10.0.0.22:5432", databases[1]),
            ("/run/haproxy/admin.sock", socket.to_str().unwrap()),
        ];
        // Unchanged, and with other addresses.
        check(&example);
        for (from, to) in replacements {
            assert!(text.contains(from), "{}: no {from}", example.display());
            text = text.replace(from, to);
        }
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, text).unwrap();
        check(&path);
        let process = Command::new(PROGRAM)
            .args(["-q", "-db", "-f"])
            .arg(&path)
            .spawn()
            .unwrap();
        let balancer = Self {
            process,
            socket,
            api,
            database,
        };
        let begun = Instant::now();
        while TcpStream::connect(&balancer.api).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "HAProxy does not listen"
            );
            sleep(Duration::from_millis(20));
        }
        balancer
    }

    /// Directs database clients to the second server.
    pub(super) fn switch_database(&self) {
        for command in [
            "set server database/one state maint",
            "shutdown sessions server database/one",
            "set server database/two state ready",
        ] {
            let mut socket = UnixStream::connect(&self.socket).unwrap();
            writeln!(socket, "{command}").unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert_eq!(answer.trim(), "", "{command}");
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has `HAProxy` validate a configuration.
fn check(path: &Path) {
    let output = Command::new(PROGRAM)
        .args(["-c", "-f"])
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("[WARNING]"),
        "{}: {said}",
        path.display()
    );
}
