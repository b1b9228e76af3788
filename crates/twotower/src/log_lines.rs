//! Buffers log lines. Lines about requests are written in batches: a system call for each costs
//! more than formatting it, and wakes the reader of the pipe.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Target of the log events whose lines may be buffered.
pub(crate) const REQUESTS: &str = "twotower::serve::requests";

/// A line is buffered for at most this long.
const LONGEST: Duration = Duration::from_millis(100);

/// At most this many bytes are buffered. A pipe takes as many in one piece, so that lines of other
/// processes do not get in between.
const ROOM: usize = 4096;

/// Writes lines in the order in which they come: those of [`REQUESTS`] in batches, all others at
/// once. Clones share one buffer.
///
/// Buffered lines are lost if the process is killed.
#[derive(Clone)]
pub(crate) struct LogLines(Arc<Shared>);

struct Shared {
    to: BoxMakeWriter,
    waiting: Mutex<Vec<u8>>,
    /// Notified when the first line is buffered.
    begun: Condvar,
    /// Whether the thread that flushes old lines is running.
    attended: OnceLock<bool>,
}

impl LogLines {
    /// Lines that are written to `to`.
    pub(crate) fn new(to: BoxMakeWriter) -> Self {
        Self(Arc::new(Shared {
            to,
            waiting: Mutex::default(),
            begun: Condvar::new(),
            attended: OnceLock::new(),
        }))
    }

    /// Writes all buffered lines.
    pub(crate) fn flush(&self) {
        self.0.write_waiting(&mut self.0.waiting());
    }

    /// Starts the thread when the first line is buffered, if it is not running: most commands never
    /// buffer a line.
    fn is_attended(&self) -> bool {
        *self.0.attended.get_or_init(|| {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("log".into());
            thread.spawn(move || shared.attend()).is_ok()
        })
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        // The buffer holds whole lines at any time, so that a poisoned lock does no harm.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until the process ends.
    fn attend(&self) {
        loop {
            let first = self.begun.wait_while(self.waiting(), |it| it.is_empty());
            drop(first);
            thread::sleep(LONGEST);
            self.write_waiting(&mut self.waiting());
        }
    }

    /// Lines that cannot be written are lost, as they would be without a buffer.
    fn write_waiting(&self, waiting: &mut Vec<u8>) {
        if !waiting.is_empty() {
            let _ = self.to.make_writer().write_all(waiting);
            waiting.clear();
        }
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            lines: self,
            may_wait: false,
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line {
            lines: self,
            may_wait: event.target() == REQUESTS && *event.level() >= Level::INFO,
        }
    }
}

/// Takes one line.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    lines: &'a LogLines,
    may_wait: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let may_wait = self.may_wait && line.len() <= ROOM && self.lines.is_attended();
        let shared = &*self.lines.0;
        let mut waiting = shared.waiting();
        if !may_wait {
            shared.write_waiting(&mut waiting);
            shared.to.make_writer().write_all(line)?;
            return Ok(line.len());
        }
        if waiting.len() + line.len() > ROOM {
            shared.write_waiting(&mut waiting);
        }
        if waiting.is_empty() {
            shared.begun.notify_one();
        }
        waiting.extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tracing::subscriber::with_default;

    /// The text of each write.
    #[derive(Debug, Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.lock().unwrap().push(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Writes {
        fn all(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    fn lines() -> (Writes, LogLines) {
        let writes = Writes::default();
        let to = writes.clone();
        let lines = LogLines::new(BoxMakeWriter::new(move || to.clone()));
        (writes, lines)
    }

    /// Makes lines wait forever: a test thread may be scheduled too late for the real interval.
    fn never_late(lines: &LogLines) {
        lines.0.attended.set(true).unwrap();
    }

    /// Sends `events` to `lines`, as the program does.
    fn tell(lines: &LogLines, events: impl FnOnce()) {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        with_default(subscriber, events);
    }

    #[test]
    fn lines_about_requests_wait_until_another_comes_which_they_precede() {
        let (writes, lines) = lines();
        never_late(&lines);
        tell(&lines, || {
            tracing::info!("first");
            tracing::info!(target: REQUESTS, "one");
            tracing::info!(target: REQUESTS, "two");
            tracing::error!("broken");
            tracing::warn!(target: REQUESTS, "slow");
        });
        let expected = [
            " INFO first\n",
            " INFO one\n INFO two\n",
            "ERROR broken\n",
            " WARN slow\n",
        ];
        assert_eq!(writes.all(), expected);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let (writes, lines) = lines();
        never_late(&lines);
        let long = "x".repeat(ROOM / 4);
        tell(&lines, || {
            for _ in 0..7 {
                tracing::info!(target: REQUESTS, "{long}");
            }
            tracing::info!(target: REQUESTS, "{}", "y".repeat(ROOM));
        });
        let writes = writes.all();
        let lines_of_each: Vec<usize> = writes.iter().map(|text| text.lines().count()).collect();
        assert_eq!(lines_of_each, [3, 3, 1, 1]);
    }

    #[test]
    fn no_line_waits_for_ever() {
        let (writes, lines) = lines();
        for times in 1..3 {
            tell(&lines, || tracing::info!(target: REQUESTS, "one"));
            let begun = Instant::now();
            while writes.all().len() < times {
                assert!(begun.elapsed() < Duration::from_mins(1));
                thread::sleep(LONGEST / 10);
            }
        }
        tell(&lines, || tracing::info!(target: REQUESTS, "last"));
        lines.flush();
        assert_eq!(writes.all().len(), 3);
        lines.flush();
        assert_eq!(writes.all().len(), 3, "there was nothing");
    }
}
