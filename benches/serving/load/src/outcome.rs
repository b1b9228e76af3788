use crate::http::Answer;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Answered(Answer),
    Failed(io::ErrorKind),
}

/// Requests of one second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Second {
    /// Status 200, and of these the ones that say they are partial.
    pub(crate) ok: u32,
    pub(crate) partial: u32,
    /// Status 429 or 503.
    pub(crate) refused: u32,
    /// Any other status.
    pub(crate) other: u32,
    /// No answer.
    pub(crate) failed: u32,
    /// Longest time from sending to the end of the answer, or of waiting, microseconds.
    pub(crate) slowest_us: u32,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Of status 200, those that came while requests were still being sent: answers to the last ones, and refusals that are held back,
    /// come when nothing else is asked any more.
    pub(crate) ok_in_time: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    /// Refused without a word on when to come back.
    pub(crate) without_retry_after: u64,
    pub(crate) partial: u64,
    pub(crate) cached: u64,
    /// Microseconds from the moment a request was due, of those with status 200.
    pub(crate) latency_us: Vec<u32>,
    /// Microseconds from sending, of the same.
    pub(crate) service_us: Vec<u32>,
    /// Microseconds from sending, of those refused.
    pub(crate) refusal_us: Vec<u32>,
    pub(crate) seconds: Vec<Second>,
}

fn microseconds(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Log {
    /// Notes the outcome of a request sent in `second`, `latency` after it was due and `service` after it was sent; `in_time` if requests
    /// were still being sent then.
    pub(crate) fn push(
        &mut self,
        outcome: Outcome,
        second: usize,
        latency: Duration,
        service: Duration,
        in_time: bool,
    ) {
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Second::default());
        }
        let (latency, service) = (microseconds(latency), microseconds(service));
        let now = &mut self.seconds[second];
        now.slowest_us = now.slowest_us.max(service);
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::Failed(kind) => {
                now.failed += 1;
                *self.failures.entry(format!("{kind:?}")).or_default() += 1;
                return;
            }
        };
        *self.statuses.entry(answer.status).or_default() += 1;
        match answer.status {
            200 => {
                now.ok += 1;
                self.ok_in_time += u64::from(in_time);
                now.partial += u32::from(answer.partial);
                self.partial += u64::from(answer.partial);
                self.cached += u64::from(answer.cached);
                self.latency_us.push(latency);
                self.service_us.push(service);
            }
            429 | 503 => {
                now.refused += 1;
                self.without_retry_after += u64::from(!answer.retry_after);
                self.refusal_us.push(service);
            }
            _ => now.other += 1,
        }
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.ok_in_time += other.ok_in_time;
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        self.without_retry_after += other.without_retry_after;
        self.partial += other.partial;
        self.cached += other.cached;
        self.latency_us.append(&mut other.latency_us);
        self.service_us.append(&mut other.service_us);
        self.refusal_us.append(&mut other.refusal_us);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (sum, second) in self.seconds.iter_mut().zip(other.seconds) {
            sum.ok += second.ok;
            sum.partial += second.partial;
            sum.refused += second.refused;
            sum.other += second.other;
            sum.failed += second.failed;
            sum.slowest_us = sum.slowest_us.max(second.slowest_us);
        }
    }
}
