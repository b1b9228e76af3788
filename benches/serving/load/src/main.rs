//! Sends requests to one address of an HTTP server and tells what came back, as one line of JSON.
//!
//! With a rate the loop is open: request i is due at i / rate, whether or not earlier ones were answered, and latency counts from
//! that moment, so that a server that stalls is charged for all who came meanwhile. Without one each connection sends as fast
//! as it is answered.

mod options;

mod http;

mod schedule;

mod outcome;

mod report;

use http::Connection;
use options::Options;
use outcome::{Log, Outcome};
use schedule::Schedule;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A request is written and read on the stack of nobody: threads need little.
const STACK_BYTES: usize = 128 * 1024;

/// Pause of a connection that could not be made.
const RECONNECT: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("serving-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Box<dyn Error>> {
    let options = Arc::new(Options::parse(std::env::args().skip(1))?);
    let requests = Arc::new(http::requests(&options)?);
    let schedule = Arc::new(Schedule::new(options.rate, options.seconds));
    let threads = (0..options.connections)
        .map(|_| {
            let (options, requests, schedule) = (
                Arc::clone(&options),
                Arc::clone(&requests),
                Arc::clone(&schedule),
            );
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || work(&options, &requests, &schedule))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut all = Log::default();
    for thread in threads {
        all.add(thread.join().map_err(|_| "a thread panicked")?);
    }
    Ok(report::report(&options, all, &schedule))
}

/// What one connection does until the time is over.
fn work(options: &Options, requests: &[Vec<u8>], schedule: &Schedule) -> Log {
    let mut log = Log::default();
    let mut connection: Option<Connection> = None;
    while let Some(slot) = schedule.next() {
        let request = &requests[slot.number % requests.len()];
        let sent = Instant::now();
        let due = slot.due.unwrap_or(sent);
        let outcome = exchange(options, &mut connection, request);
        let failed = matches!(outcome, Outcome::Failed(_));
        log.push(
            outcome,
            schedule.second(sent),
            due.elapsed(),
            sent.elapsed(),
            schedule.runs(),
        );
        if failed {
            connection = None;
            thread::sleep(RECONNECT);
        }
    }
    log
}

/// Sends one request, on a new connection if there is none.
fn exchange(options: &Options, connection: &mut Option<Connection>, request: &[u8]) -> Outcome {
    let mut open = match connection.take() {
        Some(open) => open,
        None => match Connection::open(options.address, options.timeout) {
            Ok(open) => open,
            Err(error) => return Outcome::Failed(error.kind()),
        },
    };
    match open.exchange(request) {
        Ok(answer) => {
            if open.stays_open() {
                *connection = Some(open);
            }
            Outcome::Answered(answer)
        }
        Err(error) => Outcome::Failed(error.kind()),
    }
}
