use std::time::Duration;

/// The limit changes at most once in this time, and only after at least this many requests.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_SAMPLES: u32 = 25;

/// Latency of up to `TOLERANCE` times the latency without load, plus `SLACK`, does not indicate a
/// queue. The slack is for short requests: a request of a millisecond waits for several whenever
/// another process runs on the core, here or in the database, and requests that share a statement
/// wait for each other.
const TOLERANCE: f64 = 1.5;
const SLACK: Duration = Duration::from_millis(15);

/// Factors by which one window may change the limit.
const GRADIENT: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// The latency without load is measured once in `PROBE_EVERY`, from `PROBE_SAMPLES` requests or for
/// `PROBE_FOR` at most: meanwhile only the minimum is admitted, and other requests wait.
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_SAMPLES: u32 = 50;
const PROBE_FOR: Duration = Duration::from_millis(500);

/// It is measured again after `PROBE_AGAIN` if latency under load is below `CHANGED` times the
/// latency without load: then that has become lower since.
const CHANGED: f64 = 0.8;
const PROBE_AGAIN: Duration = Duration::from_secs(10);

/// Bounds of the limit, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) minimum: usize,
    pub(super) maximum: usize,
}

/// One completed request. Times are counted from a fixed start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) admitted: Duration,
    pub(super) ended: Duration,
    /// Requests in flight when it ended, itself included.
    pub(super) in_flight: usize,
}

/// A concurrency limit that follows latency: the gradient controller of Envoy's adaptive
/// concurrency filter, after Netflix's concurrency-limits.
///
/// Each window compares the mean latency with the latency without load: gradient = (tolerance ·
/// `no_load` + slack) / mean, limit ← gradient · limit + √limit. While nothing queues, the gradient
/// is above 1 and the limit grows. Where requests wait for cores or for the database, latency grows
/// with the limit, which settles where requests wait for about as long as they work. The latency
/// without load is the mean of windows with at most `minimum` requests in flight. A long overload
/// has no such window, so for a moment now and then only `minimum` requests are admitted.
///
/// AIMD on time-outs is no alternative: with deadlines of seconds and requests of milliseconds it
/// would notice a queue a thousand times too late. Nor are Gradient2 and Vegas as published: during
/// an overload their estimate of the latency without load drifts to the latency under load, and the
/// limit with it.
#[derive(Debug)]
pub(super) struct Gradient {
    bounds: Bounds,
    limit: f64,
    /// Mean latency in seconds while nothing queues.
    no_load: Option<f64>,
    window: Window,
    /// While `no_load` is measured, the limit to return to.
    probing: Option<f64>,
    probed: Duration,
}

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    samples: u32,
    seconds: f64,
    peak: usize,
}

impl Gradient {
    /// Begins with a measurement of the latency without load.
    pub(super) fn new(bounds: Bounds) -> Self {
        let minimum = bounds.minimum.max(1);
        let bounds = Bounds {
            minimum,
            maximum: bounds.maximum.max(minimum),
        };
        Self {
            bounds,
            limit: minimum as f64,
            no_load: None,
            window: Window::default(),
            probing: Some(minimum as f64),
            probed: Duration::ZERO,
        }
    }

    /// Requests that may be in flight.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Counts a request when it has ended.
    pub(super) fn observe(&mut self, sample: &Sample) {
        // Requests admitted earlier say nothing about the limit of this window.
        if sample.admitted < self.window.began && self.probing.is_some() {
            return;
        }
        let latency = sample.ended.saturating_sub(sample.admitted);
        self.window.samples += 1;
        self.window.seconds += latency.as_secs_f64();
        self.window.peak = self.window.peak.max(sample.in_flight);
        let age = sample.ended.saturating_sub(self.window.began);
        let enough = match self.probing {
            Some(_) => self.window.samples >= PROBE_SAMPLES || age >= PROBE_FOR,
            None => self.window.samples >= WINDOW_SAMPLES && age >= WINDOW,
        };
        if enough {
            self.close(sample.ended);
        }
    }

    fn close(&mut self, now: Duration) {
        let next = Window {
            began: now,
            ..Window::default()
        };
        let window = std::mem::replace(&mut self.window, next);
        let mean = window.seconds / f64::from(window.samples);
        let unloaded = window.peak <= self.bounds.minimum;
        if let Some(limit) = self.probing.take() {
            self.limit = limit;
            self.no_load = Some(mean);
            self.probed = now;
            return;
        }
        let no_load = match self.no_load {
            Some(known) if !unloaded => {
                let since = now.saturating_sub(self.probed);
                let changed = mean < CHANGED * known && since >= PROBE_AGAIN;
                if changed || since >= PROBE_EVERY {
                    self.probing = Some(self.limit);
                    self.limit = self.bounds.minimum as f64;
                    return;
                }
                // Unchanged, so that a change is still visible once `PROBE_AGAIN` is over.
                known
            }
            _ => {
                self.probed = now;
                mean
            }
        };
        self.no_load = Some(no_load);
        let tolerated = TOLERANCE * no_load + SLACK.as_secs_f64();
        let gradient =
            (tolerated / mean.max(f64::MIN_POSITIVE)).clamp(*GRADIENT.start(), *GRADIENT.end());
        let next_limit = gradient * self.limit + self.limit.sqrt();
        // A limit that is not reached says nothing about a higher one.
        let idle = window.peak < self.limit as usize / 2;
        if next_limit < self.limit || !idle {
            self.limit = next_limit.clamp(self.bounds.minimum as f64, self.bounds.maximum as f64);
        }
    }
}

#[cfg(test)]
mod tests;
