/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Counts of observations by size.
    Histogram,
}

impl Kind {
    /// The name in Prometheus' text format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric: its name, type, labels and description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name, which ends with the unit.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Description.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($(#[$attribute:meta])* $constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            $(#[$attribute])*
            pub(super) const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// Every metric of a server, in the order in which they are rendered.
        pub const CATALOGUE: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    REQUEST_DURATION: Histogram "twotower_http_request_duration_seconds" ["route", "status"]
        "from the request's headers to the answer, by address and status";
    STAGE_DURATION: Histogram "twotower_http_stage_duration_seconds" ["stage"]
        "time that requests spend in a stage; the stages are those of `Server-Timing`";
    REQUESTS_SHED: Counter "twotower_http_requests_shed_total" ["reason"]
        "requests that were told to come back: `queue_full`, `queue_deadline`, `user_rate`; for events also `user_events`, `user_calls`, `circuit_open`";
    REQUESTS_IN_FLIGHT: Gauge "twotower_http_requests_in_flight" []
        "requests worked on now";
    REQUESTS_WAITING: Gauge "twotower_http_requests_waiting" []
        "requests that wait for a place among those";
    CONCURRENCY_LIMIT: Gauge "twotower_concurrency_limit" []
        "how many may be worked on at once; follows latency";
    CONNECTIONS: Gauge "twotower_http_connections" []
        "open connections of clients";
    RECOMMENDATIONS: Counter "twotower_recommendations_total" ["source", "cached", "partial"]
        "lists that were answered, as the answer's fields of these names say";
    CACHE_REQUESTS: Counter "twotower_cache_requests_total" ["outcome"]
        "looks into the cache: `hit`, `stale` (the database was late), `miss`";
    CACHE_ENTRIES: Gauge "twotower_cache_entries" []
        "users who have answers in the cache";
    POOL_CONNECTIONS: Gauge "twotower_database_pool_connections" ["state"]
        "connections to the database, `idle` and `busy`";
    STATE_READS: Counter "twotower_user_state_reads_total" ["source"]
        "users whose likes, skips and blocks were read, on the `primary` and on the `replica`";
    REPLICA_FALLBACKS: Counter "twotower_replica_fallbacks_total" ["reason"]
        "users who were not read where they should be: on the primary, since the replica is `behind` or `failed`, the user has just changed something (`own_change`), or changes go `unheard` or positions `unmeasured`; on the replica, since the `primary_away`";
    REPLICA_LAG: Gauge "twotower_replica_lag_seconds" []
        "since the moment as of which the replica is known to be complete, or since the server began to ask one that has never answered; it is asked four times a second; absent without a replica";
    SNAPSHOT_AGE: Gauge "twotower_snapshot_age_seconds" []
        "since the view that requests are answered from was last known to be current";
    SNAPSHOT_VIDEOS: Gauge "twotower_snapshot_videos" []
        "videos in that view";
    SNAPSHOT_BYTES: Gauge "twotower_snapshot_bytes" []
        "memory that it takes";
    MODEL_VERSION: Gauge "twotower_model_version" []
        "version of the model that answers; absent without one";
    EMBEDDING_STALENESS: Gauge "twotower_embedding_staleness_seconds" []
        "since a vector of a video was last written for the model that answers";
    RECALL_PROBE: Gauge "twotower_recall_probe" []
        "share of the exact top ten that the index found, over the latest sampled requests";
    MODEL_QUALITY: Gauge "twotower_model_quality" ["metric"]
        "`auc` and `precision_at_10` of the model that answers, means over users, as the quality gate measured them; absent if it was not asked";
    JOB_RUN_STATE: Gauge "twotower_job_run_state" ["job_name", "state"]
        "1 for the state of the latest run of a job, 0 for the others: `running`, `succeeded`, `failed`, `refused`";
    JOB_LAST_SUCCESS: Gauge "twotower_job_last_success_timestamp_seconds" ["job_name"]
        "end of the latest run of a job that succeeded, since 1970 by the database's clock";
    JOB_LAST_DURATION: Gauge "twotower_job_last_success_duration_seconds" ["job_name"]
        "how long that run took";
    RESIDENT_MEMORY: Gauge "process_resident_memory_bytes" []
        "memory of the process in RAM";
    OPEN_FDS: Gauge "process_open_fds" []
        "open file descriptors";
    MAX_FDS: Gauge "process_max_fds" []
        "most file descriptors that the process may open";
    CPU_SECONDS: Counter "process_cpu_seconds_total" []
        "processor time of the process, user and system";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        for metric in CATALOGUE {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(metric.name.bytes().all(plain), "{}", metric.name);
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.kind == Kind::Counter, "{}", metric.name);
        }
    }

    /// The table in docs/api.md must equal this list.
    #[test]
    fn the_documents_list_the_same() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let section = docs.split("\n## Metrics\n").nth(1).expect("## Metrics");
        let section = section.split("\n## ").next().unwrap();
        let documented: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let expected: Vec<String> = CATALOGUE
            .iter()
            .map(|metric| {
                let labels: Vec<String> = metric
                    .labels
                    .iter()
                    .map(|label| format!("`{label}`"))
                    .collect();
                format!(
                    "| `{}` | {} | {} | {} |",
                    metric.name,
                    metric.kind.name(),
                    labels.join(", "),
                    metric.help
                )
            })
            .collect();
        assert_eq!(
            documented,
            expected,
            "docs/api.md should say:\n{}",
            expected.join("\n")
        );
    }
}
