//! The controller on a server in virtual time. The server shares `cores` among all admitted
//! requests, each of which works for `work` and then waits for `elsewhere`.

use super::*;

const TICK: Duration = Duration::from_micros(250);

struct Server {
    cores: f64,
    work: Duration,
    elsewhere: Duration,
    gradient: Gradient,
    now: Duration,
    requests: Vec<Request>,
    due: f64,
}

struct Request {
    admitted: Duration,
    work_left: f64,
    elsewhere_until: Option<Duration>,
}

/// Result of some virtual seconds.
struct Outcome {
    done: u32,
    limits: Vec<usize>,
}

impl Server {
    fn new(cores: f64, work_ms: u64, elsewhere_ms: u64) -> Self {
        Self {
            cores,
            work: Duration::from_millis(work_ms),
            elsewhere: Duration::from_millis(elsewhere_ms),
            gradient: Gradient::new(Bounds {
                minimum: 8,
                maximum: 256,
            }),
            now: Duration::ZERO,
            requests: Vec::new(),
            due: 0.0,
        }
    }

    fn run(&mut self, seconds: u64, arrivals_per_second: f64) -> Outcome {
        let end = self.now + Duration::from_secs(seconds);
        let mut outcome = Outcome {
            done: 0,
            limits: Vec::new(),
        };
        while self.now < end {
            self.due += arrivals_per_second * TICK.as_secs_f64();
            while self.due >= 1.0 {
                self.due -= 1.0;
                if self.requests.len() < self.gradient.limit() {
                    self.requests.push(Request {
                        admitted: self.now,
                        work_left: self.work.as_secs_f64(),
                        elsewhere_until: None,
                    });
                }
            }
            self.now += TICK;
            outcome.done += self.work();
            outcome.limits.push(self.gradient.limit());
        }
        outcome
    }

    fn work(&mut self) -> u32 {
        let working = self
            .requests
            .iter()
            .filter(|request| request.elsewhere_until.is_none())
            .count();
        let share = TICK.as_secs_f64() * (self.cores / working.max(1) as f64).min(1.0);
        for request in &mut self.requests {
            if request.elsewhere_until.is_none() {
                request.work_left -= share;
                if request.work_left <= 0.0 {
                    request.elsewhere_until = Some(self.now + self.elsewhere);
                }
            }
        }
        let now = self.now;
        let over = |request: &Request| request.elsewhere_until.is_some_and(|until| until <= now);
        let mut in_flight = self.requests.len();
        let mut done = 0;
        let mut index = 0;
        while index < self.requests.len() {
            if !over(&self.requests[index]) {
                index += 1;
                continue;
            }
            let request = self.requests.swap_remove(index);
            self.gradient.observe(&Sample {
                admitted: request.admitted,
                ended: now,
                in_flight,
            });
            in_flight -= 1;
            done += 1;
        }
        done
    }
}

/// A limit that is high enough: three times the minimum or the number of cores, plus the requests
/// that the cores complete within the slack.
fn plenty(cores: f64, work_ms: u64) -> f64 {
    let within_slack = cores * SLACK.as_millis() as f64 / work_ms as f64;
    8.0_f64.max(cores) * 3.0 + within_slack
}

#[test]
fn overload_of_the_cores_costs_no_throughput_and_latency_stays_bounded() {
    for (cores, work_ms) in [(1.0, 1), (2.0, 2), (8.0, 3)] {
        for overload in [2.0, 10.0] {
            let mut server = Server::new(cores, work_ms, 0);
            let capacity = cores * 1000.0 / work_ms as f64;
            let outcome = server.run(100, overload * capacity);
            let goodput = f64::from(outcome.done) / (100.0 * capacity);
            let highest = *outcome.limits.iter().max().unwrap();
            assert!(goodput >= 0.95, "{cores} cores, {overload}×: {goodput}");
            assert!(
                highest as f64 <= plenty(cores, work_ms),
                "{cores} cores, {overload}×: limit {highest}"
            );
        }
    }
}

#[test]
fn the_limit_grows_where_requests_wait_elsewhere() {
    let mut server = Server::new(2.0, 1, 40);
    let outcome = server.run(60, 4000.0);
    let goodput = f64::from(outcome.done) / (60.0 * 2000.0);
    assert!(goodput >= 0.95, "{goodput}");
}

#[test]
fn the_limit_recovers_when_slow_requests_become_quick_again() {
    let mut server = Server::new(2.0, 2, 0);
    server.run(20, 2000.0);
    server.elsewhere = Duration::from_secs(2);
    let slow = server.run(30, 2000.0);
    server.elsewhere = Duration::ZERO;
    server.run(15, 2000.0);
    let outcome = server.run(60, 2000.0);
    let goodput = f64::from(outcome.done) / (60.0 * 1000.0);
    let highest = *outcome.limits.iter().max().unwrap();
    assert!(goodput >= 0.95, "{goodput}");
    assert!(highest as f64 <= plenty(2.0, 2), "{highest}");
    assert!(slow.limits.iter().all(|limit| (8..=256).contains(limit)));
}

#[test]
fn a_limit_that_is_not_reached_does_not_grow() {
    let mut server = Server::new(2.0, 1, 0);
    let outcome = server.run(120, 100.0);
    let highest = *outcome.limits.iter().max().unwrap();
    assert_eq!(highest, 8, "no more requests were in flight");
    assert!(outcome.done >= 11_990, "{}", outcome.done);
}

#[test]
fn bounds_are_made_consistent() {
    let none = Gradient::new(Bounds {
        minimum: 0,
        maximum: 0,
    });
    assert_eq!(none.limit(), 1);
    let crossed = Gradient::new(Bounds {
        minimum: 9,
        maximum: 3,
    });
    assert_eq!(crossed.limit(), 9);
}
