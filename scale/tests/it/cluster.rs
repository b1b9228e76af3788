//! A scheduler and two executors on loopback, one of which dies in the middle of the work: the bytes are those of one process.

use crate::support::{assert_same, command, succeed, text, write_model};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use twotower_core::feature::Video;
use uuid::Uuid;

const LIKES: &str = "5000000";
/// Bytes after which an executor dies: more than all videos are, so that it is in the middle of the likes.
const ENOUGH: u64 = 10_000_000;
const PATIENCE: Duration = Duration::from_mins(10);

/// A process of the cluster, which does not outlive the test.
struct Process(Child);

impl Process {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Ends it without a word (SIGKILL).
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Cluster {
    root: PathBuf,
    scheduler: String,
    _process: Process,
    started: usize,
}

impl Cluster {
    fn start(root: &Path) -> Self {
        let port = free_ports();
        let mut scheduler = command(&["scheduler", "--bind", &format!("127.0.0.1:{port}")]);
        scheduler
            .args(["--executor-timeout", "4"])
            .env("RUST_LOG", "info");
        let process = Process::start(scheduler, &root.join("scheduler.log"));
        reachable(port);
        Self {
            root: root.to_owned(),
            scheduler: format!("df://127.0.0.1:{port}"),
            _process: process,
            started: 0,
        }
    }

    /// Starts an executor of one core; its folder is where what it hands on stands.
    fn executor(&mut self) -> (Process, PathBuf) {
        let (port, number) = (free_ports(), self.started);
        self.started += 1;
        let work = self.root.join(format!("executor-{number}"));
        let mut executor = command(&["executor", "--scheduler", &self.scheduler]);
        executor
            .args(["--bind", &format!("127.0.0.1:{port}"), "--cores", "1"])
            .args(["--memory-limit", "200MB", "--heartbeat", "1"])
            .args(["--work-dir", text(&work)])
            .env("RUST_LOG", "info");
        let log = self.root.join(format!("executor-{number}.log"));
        let process = Process::start(executor, &log);
        reachable(port);
        (process, work)
    }

    /// How often the scheduler has noticed that an executor was lost.
    fn losses(&self) -> usize {
        let log = fs::read_to_string(self.root.join("scheduler.log")).unwrap();
        log.matches("heartbeat timed out").count() + log.matches("on lost Executor").count()
    }

    /// Runs the program on the cluster and kills `victim` as soon as it has written enough that others are to read.
    fn run_and_kill(&self, arguments: &[&str], victim: &mut Process, work: &Path) {
        let mut program = command(arguments);
        program.args(["--scheduler", &self.scheduler]);
        let log = self.root.join("client.log");
        let mut program = Process::start(program, &log);
        wait("work in the executor that is to die", || {
            bytes_below(work) > ENOUGH
        });
        let running = program.0.try_wait().unwrap().is_none();
        assert!(
            running,
            "the executor was to die in the middle, and the work was done before"
        );
        victim.kill();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = program.0.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the work goes on for ever");
            std::thread::sleep(Duration::from_millis(50));
        };
        let said = fs::read_to_string(&log).unwrap();
        assert!(status.success(), "{said}");
        println!(
            "done {:.1} s after an executor was killed; {said}",
            start.elapsed().as_secs_f64()
        );
    }
}

/// A port that is free, and the next one too.
fn free_ports() -> u16 {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    loop {
        let port = free(0).unwrap().local_addr().unwrap().port();
        if port < u16::MAX && free(port).is_ok() && free(port + 1).is_ok() {
            return port;
        }
    }
}

fn reachable(port: u16) {
    wait("a process that listens", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
}

fn wait(what: &str, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What tasks that are done have written for others to read.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        // What a sort puts aside is no more than its own business.
        .filter(|entry| {
            !entry
                .file_name()
                .to_string_lossy()
                .starts_with("datafusion-")
        })
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn the_bytes_are_those_of_one_process_though_an_executor_dies() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (data, models) = (path("data"), path("models/7"));
    let arguments = [
        "generate", "--likes", LIKES, "--videos", "20000", "--files", "6",
    ];
    succeed(&[&arguments[..], &["--to", text(&data)]].concat());
    let known: Vec<Video> = (0..100)
        .map(|n| Video {
            id: Uuid::from_u128(n),
            tags: vec![format!("topic {n}")],
            ..Video::default()
        })
        .collect();
    write_model(&models, &known, 16);

    let prepare = |to: &str| ["prepare", "--from", text(&data), "--to", to].map(str::to_owned);
    let embed = |to: &str| {
        let arguments = [
            "embed",
            "--model",
            text(&models),
            "--from",
            text(&data),
            "--to",
            to,
            "--users",
        ];
        arguments.map(str::to_owned)
    };
    let (shards, vectors) = (path("shards"), path("vectors"));
    for arguments in [&prepare(text(&shards))[..], &embed(text(&vectors))[..]] {
        succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    let mut cluster = Cluster::start(folder.path());
    let (_survivor, _) = cluster.executor();
    let (to_shards, to_vectors) = (path("cluster-shards"), path("cluster-vectors"));
    let jobs = [
        (&prepare(text(&to_shards))[..], &shards, &to_shards),
        (&embed(text(&to_vectors))[..], &vectors, &to_vectors),
    ];
    for (number, (arguments, expected, to)) in jobs.into_iter().enumerate() {
        let (mut victim, work) = cluster.executor();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cluster.run_and_kill(&arguments, &mut victim, &work);
        assert!(
            cluster.losses() > number,
            "the scheduler never knew that an executor was lost"
        );
        assert_same(expected, to);
    }
}
