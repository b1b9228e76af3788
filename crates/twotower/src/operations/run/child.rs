//! Runs one command until it exits, its time limit is reached, or this process is asked to stop.

use super::super::program::{ChildSignal, Program, send_signal};
use super::last_error::LastError;
use crate::interrupt::Interrupt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Interval at which a child is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Time to read the rest of a child's output after its exit: a process that it left behind may keep
/// the pipes open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limits of a command.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// It is asked to stop at this time.
    pub deadline: Instant,
    /// It is killed if it has not stopped this long after that.
    pub grace: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited, with this code.
    Exited(i32),
    /// A signal that we did not send killed it.
    Killed,
    /// It was stopped because its time limit was reached.
    TimedOut,
    /// It was stopped because this process was.
    Interrupted,
}

/// How a command ended, with its output.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// Its standard output, which is its result.
    pub stdout: String,
    /// The last error in its log.
    pub error: Option<String>,
}

/// Runs `twotower WORDS…` and forwards its standard error.
///
/// # Errors
/// If it cannot be started.
pub fn run_command(
    program: &Program,
    words: &[String],
    limits: Limits,
    interrupt: &Interrupt,
) -> io::Result<Ended> {
    let mut child = program
        .command(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = read_apart(child.stdout.take(), |mut stdout| {
        let mut text = String::new();
        // Output that is not UTF-8 is no result of ours.
        let _ = stdout.read_to_string(&mut text);
        text
    });
    let stderr = read_apart(child.stderr.take(), pass_on);
    let (status, stopped) = wait(&mut child, program, limits, interrupt)?;
    let end = match (status.code(), stopped) {
        (Some(0), _) => End::Exited(0),
        (_, Some(stopped)) => stopped,
        (Some(code), None) => End::Exited(code),
        (None, None) => End::Killed,
    };
    Ok(Ended {
        end,
        stdout: stdout.recv_timeout(DRAIN_TIMEOUT).unwrap_or_default(),
        error: stderr.recv_timeout(DRAIN_TIMEOUT).ok().flatten(),
    })
}

/// Waits for the exit; returns why it was stopped, if it was.
fn wait(
    child: &mut Child,
    program: &Program,
    limits: Limits,
    interrupt: &Interrupt,
) -> io::Result<(ExitStatus, Option<End>)> {
    let mut stopped: Option<(End, Instant)> = None;
    let mut reopened = program.log_reopened();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, stopped.map(|(end, _)| end)));
        }
        match stopped {
            Some((_, force_at)) if Instant::now() >= force_at => child.kill()?,
            Some(_) => {}
            None => {
                let why = if interrupt.is_set() {
                    Some(End::Interrupted)
                } else {
                    (Instant::now() >= limits.deadline).then_some(End::TimedOut)
                };
                if let Some(end) = why {
                    send_signal(child, ChildSignal::Stop);
                    stopped = Some((end, Instant::now() + limits.grace));
                }
            }
        }
        if program.log_reopened() != reopened {
            reopened = program.log_reopened();
            send_signal(child, ChildSignal::ReopenLog);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Reads a pipe to its end on a thread of its own.
fn read_apart<P, T>(pipe: Option<P>, read: impl FnOnce(P) -> T + Send + 'static) -> Receiver<T>
where
    P: Send + 'static,
    T: Send + 'static,
{
    let (done, result) = mpsc::channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || done.send(read(pipe)));
    }
    result
}

/// Forwards lines unchanged to our own standard error as they come.
fn pass_on(stderr: impl Read) -> Option<String> {
    let mut last = LastError::default();
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        // If nobody reads our standard error, the work continues nevertheless.
        let _ = io::stderr().lock().write_all(&line);
        last.read(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    last.into_message()
}
