#[cfg(test)]
mod tests;

use super::catalogue as is;
use super::process;
use super::text::Text;
use crate::serve::timing::{Stage, Timing};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use twotower_store::RunState;

/// Upper bounds of the buckets for the time of a request, seconds. One of them is the limit that
/// alerts use, so that they need not interpolate.
const REQUEST_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Upper bounds for the time of a stage, seconds. Most stages take less than a millisecond.
const STAGE_BUCKETS: [f64; 14] = [
    0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// Summary of a list of recommendations, for the log and the metrics: an extension of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// The answer's `source`.
    pub source: &'static str,
    /// The answer's `cached`.
    pub cached: bool,
    /// The answer's `partial`.
    pub partial: bool,
}

/// Outcome of a cache lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheOutcome {
    /// A current answer.
    Hit,
    /// A stale answer, given because a new one would have taken too long.
    Stale,
    /// No usable answer.
    Miss,
}

impl CacheOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
        }
    }
}

/// State of a database connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// Waiting for work.
    Idle,
    /// At work.
    Busy,
}

/// The server that the state of a user was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadFrom {
    /// The primary, which takes the writes.
    Primary,
    /// A streaming replica of the primary.
    Replica,
}

impl ReadFrom {
    const fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// Why the state of a user was read from the other server than intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fallback {
    /// Read from the primary: the replica has not replayed the required position.
    Behind,
    /// Read from the primary: the replica did not answer.
    Failed,
    /// Read from the primary: the replica may lack the user's latest change.
    OwnChange,
    /// Read from the primary: changes of users are not heard.
    Unheard,
    /// Read from the primary: it has not reported a position for too long.
    Unmeasured,
    /// Read from the replica: the primary is away.
    PrimaryAway,
}

impl Fallback {
    const fn label(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Failed => "failed",
            Self::OwnChange => "own_change",
            Self::Unheard => "unheard",
            Self::Unmeasured => "unmeasured",
            Self::PrimaryAway => "primary_away",
        }
    }
}

/// The view that requests are answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFigures {
    /// Number of videos.
    pub videos: usize,
    /// Memory, bytes.
    pub bytes: usize,
}

/// Results of the latest runs of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JobFigures {
    /// State of the latest run that was not left to another process.
    pub state: Option<RunState>,
    /// The latest run that succeeded.
    pub success: Option<Success>,
}

/// A run that succeeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Success {
    /// End, seconds since 1970.
    pub at_s: f64,
    /// Duration, seconds.
    pub took_s: f64,
}

/// States of runs that metrics report.
const RUN_STATES: [RunState; 4] = [
    RunState::Running,
    RunState::Succeeded,
    RunState::Failed,
    RunState::Refused,
];

/// The metrics of one server. Counting takes a short lock or an atomic store, and allocates nothing
/// once a series exists.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Family<(&'static str, u16), Histogram>,
    stages: Family<&'static str, Histogram>,
    shed: Family<&'static str, u64>,
    recommendations: Family<Answered, u64>,
    cache_requests: Family<CacheOutcome, u64>,
    connections: AtomicUsize,
    concurrency_limit: Gauge,
    in_flight: Gauge,
    waiting: Gauge,
    cache_entries: Gauge,
    pool_idle: Gauge,
    pool_busy: Gauge,
    state_reads: Family<ReadFrom, u64>,
    replica_fallbacks: Family<Fallback, u64>,
    replica_lag: Gauge,
    snapshot_current: Mutex<Option<Instant>>,
    snapshot_videos: Gauge,
    snapshot_bytes: Gauge,
    model_version: Gauge,
    embedding_staleness: Gauge,
    recall_probe: Gauge,
    quality: Mutex<BTreeMap<&'static str, f64>>,
    jobs: Family<&'static str, JobFigures>,
}

impl Metrics {
    /// Counts a request to `route` that was answered with `status`, and the stages in `timing`.
    pub fn answered(&self, route: &'static str, status: u16, total: Duration, timing: &Timing) {
        let mut requests = self.requests.lock();
        let of_route = requests.entry((route, status)).or_default();
        of_route.observe(&REQUEST_BUCKETS, total);
        drop(requests);
        let mut stages = self.stages.lock();
        for stage in Stage::ALL {
            if let Some(spent) = timing.spent(stage) {
                let of_stage = stages.entry(stage.name()).or_default();
                of_stage.observe(&STAGE_BUCKETS, spent);
            }
        }
    }

    /// Counts a request that was shed (told to come back later).
    pub fn shed(&self, reason: &'static str) {
        *self.shed.lock().entry(reason).or_default() += 1;
    }

    /// Counts a list of recommendations.
    pub fn recommended(&self, answered: Answered) {
        *self.recommendations.lock().entry(answered).or_default() += 1;
    }

    /// Counts a cache lookup.
    pub fn looked_up(&self, outcome: CacheOutcome) {
        *self.cache_requests.lock().entry(outcome).or_default() += 1;
    }

    /// Number of entries in the cache.
    pub fn set_cache_entries(&self, entries: usize) {
        self.cache_entries.set(entries as f64);
    }

    /// Number of connections of the pool in `state`.
    pub fn set_pool_connections(&self, state: PoolState, connections: usize) {
        match state {
            PoolState::Idle => self.pool_idle.set(connections as f64),
            PoolState::Busy => self.pool_busy.set(connections as f64),
        }
    }

    /// Counts the states of `users` users read from a server.
    pub fn read_states(&self, from: ReadFrom, users: usize) {
        if users > 0 {
            *self.state_reads.lock().entry(from).or_default() += users as u64;
        }
    }

    /// Counts the states of `users` users read from the other server than intended.
    pub fn fell_back(&self, why: Fallback, users: usize) {
        if users > 0 {
            *self.replica_fallbacks.lock().entry(why).or_default() += users as u64;
        }
    }

    /// Age of the moment up to which the replica is complete.
    pub fn set_replica_lag(&self, lag: Duration) {
        self.replica_lag.set(lag.as_secs_f64());
    }

    /// Figures of a new view, which is current.
    pub fn set_snapshot(&self, figures: SnapshotFigures) {
        self.snapshot_videos.set(figures.videos as f64);
        self.snapshot_bytes.set(figures.bytes as f64);
        self.snapshot_is_current();
    }

    /// Records that the view is known to show what the database holds.
    pub fn snapshot_is_current(&self) {
        *locked(&self.snapshot_current) = Some(Instant::now());
    }

    /// Version of the model that answers, if there is one.
    pub fn set_model(&self, version: Option<i64>) {
        self.model_version
            .set(version.map_or(f64::NAN, |version| version as f64));
    }

    /// Age of the latest vector of the model that answers.
    pub fn set_embedding_staleness(&self, age: Duration) {
        self.embedding_staleness.set(age.as_secs_f64());
    }

    /// Share of the exact top ten that was found, 0 to 1.
    pub fn set_recall_probe(&self, recall: f64) {
        self.recall_probe.set(recall);
    }

    /// Measures of the quality gate for the model that answers, by metric.
    pub fn set_quality(&self, quality: BTreeMap<&'static str, f64>) {
        *locked(&self.quality) = quality;
    }

    /// Figures of `job`. Without a recent success, the last known one stays.
    pub fn set_job(&self, job: &'static str, figures: JobFigures) {
        let mut jobs = self.jobs.lock();
        let success = jobs.get(job).and_then(|known| known.success);
        let success = figures.success.or(success);
        jobs.insert(job, JobFigures { success, ..figures });
    }

    /// Number of requests in flight, their limit, and the number waiting.
    pub fn set_load(&self, limit: usize, in_flight: usize, waiting: usize) {
        self.concurrency_limit.set(limit as f64);
        self.in_flight.set(in_flight as f64);
        self.waiting.set(waiting as f64);
    }

    /// Counts a connection until the guard is dropped.
    pub(in crate::serve) fn connection(&self) -> Connection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connection(&self.connections)
    }

    /// All known metrics, in Prometheus' text format. A gauge that was never set is left out.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.head(&is::REQUEST_DURATION);
        for ((route, status), histogram) in self.requests.lock().iter() {
            let status = status.to_string();
            histogram.write(
                &mut text,
                &is::REQUEST_DURATION,
                &REQUEST_BUCKETS,
                &[route, &status],
            );
        }
        text.head(&is::STAGE_DURATION);
        for (stage, histogram) in self.stages.lock().iter() {
            histogram.write(&mut text, &is::STAGE_DURATION, &STAGE_BUCKETS, &[stage]);
        }
        text.head(&is::REQUESTS_SHED);
        for (reason, &count) in self.shed.lock().iter() {
            text.sample(&is::REQUESTS_SHED, &[reason], count as f64);
        }
        text.gauge(&is::REQUESTS_IN_FLIGHT, &[], self.in_flight.get());
        text.gauge(&is::REQUESTS_WAITING, &[], self.waiting.get());
        text.gauge(&is::CONCURRENCY_LIMIT, &[], self.concurrency_limit.get());
        let connections = self.connections.load(Ordering::Relaxed);
        text.gauge(&is::CONNECTIONS, &[], Some(connections as f64));
        text.head(&is::RECOMMENDATIONS);
        for (answered, &count) in self.recommendations.lock().iter() {
            let labels = [
                answered.source,
                if answered.cached { "true" } else { "false" },
                if answered.partial { "true" } else { "false" },
            ];
            text.sample(&is::RECOMMENDATIONS, &labels, count as f64);
        }
        text.head(&is::CACHE_REQUESTS);
        for (outcome, &count) in self.cache_requests.lock().iter() {
            text.sample(&is::CACHE_REQUESTS, &[outcome.label()], count as f64);
        }
        text.gauge(&is::CACHE_ENTRIES, &[], self.cache_entries.get());
        text.head(&is::POOL_CONNECTIONS);
        for (state, gauge) in [("idle", &self.pool_idle), ("busy", &self.pool_busy)] {
            if let Some(connections) = gauge.get() {
                text.sample(&is::POOL_CONNECTIONS, &[state], connections);
            }
        }
        text.head(&is::STATE_READS);
        for (from, &count) in self.state_reads.lock().iter() {
            text.sample(&is::STATE_READS, &[from.label()], count as f64);
        }
        text.head(&is::REPLICA_FALLBACKS);
        for (why, &count) in self.replica_fallbacks.lock().iter() {
            text.sample(&is::REPLICA_FALLBACKS, &[why.label()], count as f64);
        }
        text.gauge(&is::REPLICA_LAG, &[], self.replica_lag.get());
        let age = locked(&self.snapshot_current).map(|at| at.elapsed().as_secs_f64());
        text.gauge(&is::SNAPSHOT_AGE, &[], age);
        text.gauge(&is::SNAPSHOT_VIDEOS, &[], self.snapshot_videos.get());
        text.gauge(&is::SNAPSHOT_BYTES, &[], self.snapshot_bytes.get());
        text.gauge(&is::MODEL_VERSION, &[], self.model_version.get());
        text.gauge(
            &is::EMBEDDING_STALENESS,
            &[],
            self.embedding_staleness.get(),
        );
        text.gauge(&is::RECALL_PROBE, &[], self.recall_probe.get());
        text.head(&is::MODEL_QUALITY);
        for (metric, &value) in locked(&self.quality).iter() {
            text.sample(&is::MODEL_QUALITY, &[metric], value);
        }
        self.render_jobs(&mut text);
        let figures = process::figures();
        text.gauge(&is::RESIDENT_MEMORY, &[], figures.resident_bytes);
        text.gauge(&is::OPEN_FDS, &[], figures.open_fds);
        text.gauge(&is::MAX_FDS, &[], figures.max_fds);
        text.gauge(&is::CPU_SECONDS, &[], figures.cpu_seconds);
        text.into_string()
    }

    fn render_jobs(&self, text: &mut Text) {
        let jobs = self.jobs.lock();
        text.head(&is::JOB_RUN_STATE);
        for (job, figures) in jobs.iter() {
            let Some(latest) = figures.state else {
                continue;
            };
            for state in RUN_STATES {
                let value = if state == latest { 1.0 } else { 0.0 };
                text.sample(&is::JOB_RUN_STATE, &[job, state.as_str()], value);
            }
        }
        let successes = jobs.iter().filter_map(|(job, it)| Some((job, it.success?)));
        let successes: Vec<_> = successes.collect();
        text.head(&is::JOB_LAST_SUCCESS);
        for (job, success) in &successes {
            text.sample(&is::JOB_LAST_SUCCESS, &[job], success.at_s);
        }
        text.head(&is::JOB_LAST_DURATION);
        for (job, success) in &successes {
            text.sample(&is::JOB_LAST_DURATION, &[job], success.took_s);
        }
    }
}

/// A guard that counts a connection.
pub(in crate::serve) struct Connection<'a>(&'a AtomicUsize);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One series for each value of the labels.
#[derive(Debug)]
struct Family<K, V>(Mutex<BTreeMap<K, V>>);

impl<K, V> Default for Family<K, V> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K, V> Family<K, V> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, V>> {
        locked(&self.0)
    }
}

/// A panic leaves no invalid figure.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Histogram {
    /// Number of observations in each bucket alone, and beyond the last.
    counts: [u64; REQUEST_BUCKETS.len() + 1],
    seconds: f64,
}

impl Histogram {
    fn observe(&mut self, bounds: &[f64; REQUEST_BUCKETS.len()], value: Duration) {
        let seconds = value.as_secs_f64();
        self.counts[bounds.partition_point(|&bound| bound < seconds)] += 1;
        self.seconds += seconds;
    }

    fn write(&self, text: &mut Text, metric: &is::Metric, bounds: &[f64], labels: &[&str]) {
        let mut cumulative = 0;
        for (count, bound) in self.counts.iter().zip(bounds) {
            cumulative += count;
            text.bucket(metric, labels, &bound.to_string(), cumulative);
        }
        cumulative += self.counts[bounds.len()];
        text.bucket(metric, labels, "+Inf", cumulative);
        text.part(metric, "_sum", labels, self.seconds);
        text.part(metric, "_count", labels, cumulative as f64);
    }
}

/// A float64; NaN, the initial value, means that it was never set.
#[derive(Debug)]
struct Gauge(AtomicU64);

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl Gauge {
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}
