use super::catalogue as is;
use super::process;
use super::text::Text;
use crate::serve::timing::{Stage, Timing};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use twotower_store::RunState;

/// Upper bounds of a request's time, seconds. One is the limit that alerts hold it against, so that they need not interpolate.
const REQUEST_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Those of a stage, most of which take less than a millisecond.
const STAGE_BUCKETS: [f64; 14] = [
    0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// What a list of recommendations says of itself, for the log and for metrics: an extension of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// The answer's `source`.
    pub source: &'static str,
    /// The answer's `cached`.
    pub cached: bool,
    /// The answer's `partial`.
    pub partial: bool,
}

/// What a look into the cache found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheOutcome {
    /// An answer that holds.
    Hit,
    /// An old answer, given because a new one would have taken too long.
    Stale,
    /// Nothing.
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

/// What a connection to the database is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// Waiting for work.
    Idle,
    /// At work.
    Busy,
}

/// Where the state of a user was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadFrom {
    /// The server that is written to.
    Primary,
    /// A streaming replica of it.
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

/// Why the state of a user was not read where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fallback {
    /// On the primary: the replica lacks what must not be missing.
    Behind,
    /// On the primary: the replica did not answer.
    Failed,
    /// On the primary: the replica need not have yet what the user has just done.
    OwnChange,
    /// On the primary: any user may have changed something unheard.
    Unheard,
    /// On the primary: it has told no position for too long.
    Unmeasured,
    /// On the replica.
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
    /// Videos in it.
    pub videos: usize,
    /// Memory that it takes, bytes.
    pub bytes: usize,
}

/// How a job has been doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JobFigures {
    /// Of the latest run that was not left to another process.
    pub state: Option<RunState>,
    /// Of the latest one that succeeded.
    pub success: Option<Success>,
}

/// A run that succeeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Success {
    /// Its end, seconds since 1970.
    pub at_s: f64,
    /// How long it took, seconds.
    pub took_s: f64,
}

/// States of runs that metrics tell.
const RUN_STATES: [RunState; 4] = [
    RunState::Running,
    RunState::Succeeded,
    RunState::Failed,
    RunState::Refused,
];

/// Everything that one server counts. Counting is a short lock or an atomic store; nothing is allocated once a series exists.
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
    /// A request to `route` was answered with `status`, and was in the stages that `timing` tells.
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

    /// A request was told to come back.
    pub fn shed(&self, reason: &'static str) {
        *self.shed.lock().entry(reason).or_default() += 1;
    }

    /// A list was answered.
    pub fn recommended(&self, answered: Answered) {
        *self.recommendations.lock().entry(answered).or_default() += 1;
    }

    /// The cache was asked.
    pub fn looked_up(&self, outcome: CacheOutcome) {
        *self.cache_requests.lock().entry(outcome).or_default() += 1;
    }

    /// So many answers are in the cache.
    pub fn set_cache_entries(&self, entries: usize) {
        self.cache_entries.set(entries as f64);
    }

    /// So many connections of the pool are in `state`.
    pub fn set_pool_connections(&self, state: PoolState, connections: usize) {
        match state {
            PoolState::Idle => self.pool_idle.set(connections as f64),
            PoolState::Busy => self.pool_busy.set(connections as f64),
        }
    }

    /// So many users' states were read from there.
    pub fn read_states(&self, from: ReadFrom, users: usize) {
        if users > 0 {
            *self.state_reads.lock().entry(from).or_default() += users as u64;
        }
    }

    /// So many users' states were not read where they should be.
    pub fn fell_back(&self, why: Fallback, users: usize) {
        if users > 0 {
            *self.replica_fallbacks.lock().entry(why).or_default() += users as u64;
        }
    }

    /// How long ago the moment is as of which the replica is complete.
    pub fn set_replica_lag(&self, lag: Duration) {
        self.replica_lag.set(lag.as_secs_f64());
    }

    /// Another view is served from now on.
    pub fn set_snapshot(&self, figures: SnapshotFigures) {
        self.snapshot_videos.set(figures.videos as f64);
        self.snapshot_bytes.set(figures.bytes as f64);
        self.snapshot_is_current();
    }

    /// The database was asked, and the view shows what it holds.
    pub fn snapshot_is_current(&self) {
        *locked(&self.snapshot_current) = Some(Instant::now());
    }

    /// The model that answers, if there is one.
    pub fn set_model(&self, version: Option<i64>) {
        self.model_version
            .set(version.map_or(f64::NAN, |version| version as f64));
    }

    /// How long ago the latest vector of the model that answers was written.
    pub fn set_embedding_staleness(&self, age: Duration) {
        self.embedding_staleness.set(age.as_secs_f64());
    }

    /// The share of the exact top ten that was found, 0 to 1.
    pub fn set_recall_probe(&self, recall: f64) {
        self.recall_probe.set(recall);
    }

    /// What the quality gate measured of the model that answers, by metric.
    pub fn set_quality(&self, quality: BTreeMap<&'static str, f64>) {
        *locked(&self.quality) = quality;
    }

    /// How `job` has been doing. Of a success that is too long ago to be seen, the last one that was seen stays.
    pub fn set_job(&self, job: &'static str, figures: JobFigures) {
        let mut jobs = self.jobs.lock();
        let success = jobs.get(job).and_then(|known| known.success);
        let success = figures.success.or(success);
        jobs.insert(job, JobFigures { success, ..figures });
    }

    /// How many are worked on, how many may be, and how many wait.
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

    /// All that is known, in Prometheus' text format. A gauge that nobody has set is left out.
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

/// A connection that is counted.
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

/// A figure is right at any instant, so one that a panic has left behind is, too.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Histogram {
    /// Observations in each bucket alone, and beyond the last.
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

/// A float64; NaN, as which it begins, stands for one that nobody has set.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::metrics::{CATALOGUE, Kind};

    #[test]
    fn a_histogram_is_cumulative() {
        let metrics = Metrics::default();
        let timing = Timing::default();
        for ms in [1, 2, 40_000] {
            metrics.answered("/x", 200, Duration::from_millis(ms), &timing);
        }
        let text = metrics.render();
        for line in [
            r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="0.001"} 1"#,
            r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="0.0025"} 2"#,
            r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="30"} 2"#,
            r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="+Inf"} 3"#,
            r#"twotower_http_request_duration_seconds_sum{route="/x",status="200"} 40.003"#,
            r#"twotower_http_request_duration_seconds_count{route="/x",status="200"} 3"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn all_of_the_catalogue_is_told_once_it_is_known() {
        let metrics = Metrics::default();
        let timing = Timing::default();
        drop(timing.stage(Stage::Rank));
        metrics.answered("/x", 200, Duration::from_millis(1), &timing);
        metrics.shed("queue_full");
        metrics.recommended(Answered {
            source: "two_tower",
            cached: true,
            partial: false,
        });
        metrics.looked_up(CacheOutcome::Stale);
        metrics.set_cache_entries(3);
        metrics.set_pool_connections(PoolState::Idle, 2);
        metrics.set_pool_connections(PoolState::Busy, 1);
        metrics.read_states(ReadFrom::Primary, 2);
        metrics.fell_back(Fallback::Behind, 1);
        metrics.fell_back(Fallback::Failed, 0);
        metrics.set_replica_lag(Duration::from_millis(300));
        metrics.set_snapshot(SnapshotFigures {
            videos: 10,
            bytes: 4000,
        });
        metrics.set_model(Some(7));
        metrics.set_embedding_staleness(Duration::ZERO);
        metrics.set_recall_probe(0.998);
        metrics.set_load(8, 1, 0);
        metrics.set_quality(BTreeMap::from([("auc", 0.81)]));
        let success = Success {
            at_s: 1_767_225_600.0,
            took_s: 12.5,
        };
        let mut figures = JobFigures {
            state: Some(RunState::Succeeded),
            success: Some(success),
        };
        metrics.set_job("update", figures);
        figures.state = Some(RunState::Failed);
        figures.success = None;
        metrics.set_job("update", figures);
        let text = metrics.render();
        assert!(
            text.contains("twotower_job_run_state{job_name=\"update\",state=\"failed\"} 1\n")
                && text.contains(
                    "twotower_job_run_state{job_name=\"update\",state=\"succeeded\"} 0\n"
                )
                && text.contains("timestamp_seconds{job_name=\"update\"} 1767225600\n"),
            "{text}"
        );
        for metric in CATALOGUE {
            let series = match metric.kind {
                Kind::Histogram => format!("{}_count", metric.name),
                Kind::Counter | Kind::Gauge => metric.name.to_owned(),
            };
            let of_linux = metric.name.starts_with("process_") && !cfg!(target_os = "linux");
            let told = text.lines().any(|line| {
                line.strip_prefix(&series)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            assert!(told || of_linux, "{series}\n{text}");
        }
        metrics.set_model(None);
        assert!(!metrics.render().contains("twotower_model_version "));
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let metrics = Metrics::default();
        let connection = metrics.connection();
        assert!(metrics.render().contains("twotower_http_connections 1\n"));
        drop(connection);
        assert!(metrics.render().contains("twotower_http_connections 0\n"));
    }
}
