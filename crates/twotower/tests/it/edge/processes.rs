//! Deno programs that a test starts and stops.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A server under Deno. It is stopped when dropped.
pub(super) struct DenoServer {
    pub(super) address: SocketAddr,
    child: Child,
    output: Arc<Mutex<String>>,
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl DenoServer {
    /// Starts a program of the repository that serves on a free port and prints its address.
    pub(super) fn start(program: &str, options: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_with(program, options, &[], environment)
    }

    /// Like `start`, with arguments for the program. `program` may be an absolute path.
    pub(super) fn start_with(
        program: &str,
        options: &[&str],
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = Command::new(root().join("scripts/deno"))
            .args(["run", "--cached-only", "--allow-net=127.0.0.1"])
            .args(options)
            .arg(root().join(program))
            .args(arguments)
            .env("DENO_SERVE_ADDRESS", "tcp:127.0.0.1:0")
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("scripts/deno runs: see `make tools`");
        let output = Arc::new(Mutex::new(String::new()));
        let (found, addresses) = mpsc::channel();
        listen(child.stdout.take().unwrap(), &output, found.clone());
        listen(child.stderr.take().unwrap(), &output, found);
        let address = addresses.recv_timeout(Duration::from_mins(1));
        let address = address.unwrap_or_else(|error| {
            let _ = child.kill();
            panic!("{program}: {error}: {}", output.lock().unwrap())
        });
        Self {
            address,
            child,
            output,
        }
    }

    /// Everything it has printed so far.
    pub(super) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }
}

/// Collects output, and sends the first loopback address in it.
fn listen(
    stream: impl Read + Send + 'static,
    output: &Arc<Mutex<String>>,
    found: mpsc::Sender<SocketAddr>,
) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let address = line.split("http://").nth(1);
            let address = address.and_then(|text| text.trim_end_matches('/').parse().ok());
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
            drop(output);
            if let Some(address) = address {
                let _ = found.send(address);
            }
        }
    });
}

impl Drop for DenoServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
