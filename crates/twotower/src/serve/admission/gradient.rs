use std::time::Duration;

/// A limit is set anew after this time at the earliest, and after so many requests.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_SAMPLES: u32 = 25;

/// So much slower than without load is still no queue, nor is so much longer: whoever takes a millisecond waits a few whenever another
/// process has its turn on the core, here or in the database, and requests that wait together are read from the database together.
const TOLERANCE: f64 = 1.5;
const SLACK: Duration = Duration::from_millis(15);

/// What one window may change the limit by.
const GRADIENT: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// The latency without load is measured anew after this time, from so many requests, or for this time at most: as long as no more than
/// the minimum are let in, others wait.
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_SAMPLES: u32 = 50;
const PROBE_FOR: Duration = Duration::from_millis(500);

/// It is measured sooner if requests under load are so much quicker than without: then what was slow has become quick.
const CHANGED: f64 = 0.8;
const PROBE_AGAIN: Duration = Duration::from_secs(10);

/// Between which numbers a limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Least.
    pub(super) minimum: usize,
    /// Most.
    pub(super) maximum: usize,
}

/// One request that was worked on. Times are since some start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) admitted: Duration,
    pub(super) ended: Duration,
    /// Requests worked on when it ended, itself included.
    pub(super) in_flight: usize,
}

/// A concurrency limit that follows latency: the gradient controller of Envoy's adaptive concurrency filter, after Netflix's
/// concurrency-limits.
///
/// Each window compares the mean latency with that without load:
/// gradient = (tolerance · `no_load` + slack) / mean, limit ← gradient · limit + √limit. While nothing queues the gradient is above 1 and the
/// limit grows; where requests wait for cores or for the database, latency grows with the limit, and it settles where they
/// wait for about as long as they work. The latency without load is that of windows in which no more than `minimum` requests were
/// worked on; in a long overload there would be none, so now and then no more are let in for a moment.
///
/// Why not AIMD on time-outs: with deadlines of seconds and requests of milliseconds it would see a queue a thousand times too
/// late. Why not Gradient2 or Vegas as published: their estimate of the latency without load drifts to that under load, and the limit
/// with it, as long as the overload lasts.
#[derive(Debug)]
pub(super) struct Gradient {
    bounds: Bounds,
    limit: f64,
    /// Mean seconds of a request while nothing queues.
    no_load: Option<f64>,
    window: Window,
    /// The limit to go back to, while `no_load` is measured.
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
    /// Begins by measuring.
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

    /// Requests that may be worked on at once.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes a request into account when it has ended.
    pub(super) fn observe(&mut self, sample: &Sample) {
        // What was let in before says nothing about the limit of this window.
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
                // Kept, so that a change is still seen when it may be acted upon.
                known
            }
            _ => {
                self.probed = now;
                mean
            }
        };
        self.no_load = Some(no_load);
        let bearable = TOLERANCE * no_load + SLACK.as_secs_f64();
        let gradient =
            (bearable / mean.max(f64::MIN_POSITIVE)).clamp(*GRADIENT.start(), *GRADIENT.end());
        let wanted = gradient * self.limit + self.limit.sqrt();
        // A limit that is not made use of proves nothing.
        let idle = window.peak < self.limit as usize / 2;
        if wanted < self.limit || !idle {
            self.limit = wanted.clamp(self.bounds.minimum as f64, self.bounds.maximum as f64);
        }
    }
}

#[cfg(test)]
mod tests;
