//! One command from its start to its end, whichever comes first: its own, its time limit's, or that of who waits for it.

use super::super::program::{Program, Told, tell};
use super::last_error::LastError;
use crate::jobs::Interrupt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at a child.
const LOOK: Duration = Duration::from_millis(20);

/// How long to read what a child has said after it has ended: a process that it left behind may keep the pipes open.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a command may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// It is asked to stop then.
    pub deadline: Instant,
    /// It is ended by force so long after it was asked.
    pub grace: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with an exit code.
    Exited(i32),
    /// By a signal that was not ours.
    Killed,
    /// It was asked to stop, or made to, when its time was over.
    TimedOut,
    /// It was asked to stop, or made to, as we were.
    Interrupted,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Its result.
    pub stdout: String,
    /// The last error among its log lines.
    pub error: Option<String>,
}

/// Runs `twotower WORDS…` and passes on what it says on standard error.
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
        // What is no UTF-8 is no result of ours.
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
        stdout: stdout.recv_timeout(LAST_WORDS).unwrap_or_default(),
        error: stderr.recv_timeout(LAST_WORDS).ok().flatten(),
    })
}

/// Waits for the end; what was done to bring it about.
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
                    tell(child, Told::Stop);
                    stopped = Some((end, Instant::now() + limits.grace));
                }
            }
        }
        if program.log_reopened() != reopened {
            reopened = program.log_reopened();
            tell(child, Told::ReopenLog);
        }
        thread::sleep(LOOK);
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

/// Lines as they come, unchanged, to our own standard error.
fn pass_on(stderr: impl Read) -> Option<String> {
    let mut last = LastError::default();
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        // Where nobody listens, the work goes on all the same.
        let _ = io::stderr().lock().write_all(&line);
        last.read(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    last.into_message()
}
