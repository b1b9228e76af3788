use super::ConfigError;
use super::error::Section;
use crate::serve::{Concurrency, CorsOrigins, Limits, UsageError, UserRate};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// The lag of a replica is measured four times a second, so a smaller limit could never be met.
const REPLICA_MAX_LAG_MS: RangeInclusive<u32> = 500..=60_000;

/// Section `[serve]`: how requests are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Time limit of one database step, milliseconds.
    pub database_ms: u32,
    /// Time limit of a whole request, seconds.
    pub request_seconds: u32,
    /// Longest wait of an answer for the current state of its user, milliseconds; after that one is
    /// given without it. 0: the same as `database_ms`.
    pub soft_deadline_ms: u32,
    /// TTL of cached answers, seconds; changes invalidate them earlier.
    pub cache_seconds: u32,
    /// A replica is read only if it has everything that was committed this long ago, milliseconds.
    pub replica_max_lag_ms: u32,
    /// Share of a list that goes to new videos drawn at random, 0 to 1.
    pub exploration_share: f32,
    /// A video is new for this many days after publication.
    pub new_days: u32,
    /// Time limit of a request's headers, and of an idle connection until its next request,
    /// seconds.
    pub header_seconds: u32,
    /// Time limit of a request's body, seconds.
    pub body_seconds: u32,
    /// Time limit of a stalled write to a client, seconds.
    pub write_seconds: u32,
    /// At most this many open connections.
    pub connections: u32,
    /// Lower bound of the adaptive concurrency limit: requests worked on at once, however slow they
    /// are.
    pub concurrency_minimum: u32,
    /// Upper bound of the adaptive concurrency limit, however fast requests are.
    pub concurrency_maximum: u32,
    /// Longest wait in the queue for one of those places, milliseconds.
    pub queue_ms: u32,
    /// Requests per second of one user in the long run; 0 for no limit.
    pub user_requests_per_second: u32,
    /// Burst of one user: requests at once.
    pub user_burst: u32,
    /// Events per second that one user may record in the long run; 0 for no limit.
    pub user_events_per_second: u32,
    /// Events that one user may record at once.
    pub user_events_burst: u32,
    /// Origins whose pages may read answers; `["*"]` allows all.
    pub cors_origins: Vec<String>,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            database_ms: 2000,
            soft_deadline_ms: 150,
            cache_seconds: 300,
            replica_max_lag_ms: 1000,
            exploration_share: 0.0,
            new_days: 14,
            request_seconds: 30,
            header_seconds: 10,
            body_seconds: 5,
            write_seconds: 10,
            connections: 2048,
            concurrency_minimum: 8,
            concurrency_maximum: 256,
            queue_ms: 100,
            user_requests_per_second: 50,
            user_burst: 100,
            user_events_per_second: 2,
            user_events_burst: 1000,
            cors_origins: Vec::new(),
        }
    }
}

impl Serve {
    /// In the form of deadlines and limits.
    pub fn limits(&self) -> Limits {
        Limits {
            database: Duration::from_millis(self.database_ms.into()),
            request: Duration::from_secs(self.request_seconds.into()),
            soft_deadline: Duration::from_millis(self.soft_deadline_ms.into()),
            answers_kept: Duration::from_secs(self.cache_seconds.into()),
            header_read: Duration::from_secs(self.header_seconds.into()),
            body_read: Duration::from_secs(self.body_seconds.into()),
            write: Duration::from_secs(self.write_seconds.into()),
            connections: self.connections as usize,
            concurrency: Concurrency {
                minimum: self.concurrency_minimum as usize,
                maximum: self.concurrency_maximum as usize,
                queue: Duration::from_millis(self.queue_ms.into()),
            },
            user_rate: (self.user_requests_per_second > 0).then_some(UserRate {
                per_second: self.user_requests_per_second,
                burst: self.user_burst,
            }),
            user_events: (self.user_events_per_second > 0).then_some(UserRate {
                per_second: self.user_events_per_second,
                burst: self.user_events_burst,
            }),
            ..Limits::default()
        }
    }

    /// The greatest lag of a replica: `flag` if given, else the value of the file.
    ///
    /// # Errors
    /// If the flag is outside the range of the file's key.
    pub fn replica_max_lag(&self, flag: Option<u32>) -> Result<Duration, UsageError> {
        let ms = flag.unwrap_or(self.replica_max_lag_ms);
        if REPLICA_MAX_LAG_MS.contains(&ms) {
            Ok(Duration::from_millis(ms.into()))
        } else {
            let (least, most) = REPLICA_MAX_LAG_MS.into_inner();
            Err(UsageError::ReplicaMaxLag { ms, least, most })
        }
    }

    /// The origins, which were validated when the file was read.
    pub fn cors(&self) -> CorsOrigins {
        CorsOrigins::parse(&self.cors_origins).unwrap_or_default()
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let section = Section {
            path,
            name: "serve",
        };
        section.within("database_ms", self.database_ms, 1..=600_000)?;
        section.within(
            "replica_max_lag_ms",
            self.replica_max_lag_ms,
            REPLICA_MAX_LAG_MS,
        )?;
        section.within("request_seconds", self.request_seconds, 1..=600)?;
        section.within("header_seconds", self.header_seconds, 1..=600)?;
        section.within("body_seconds", self.body_seconds, 1..=600)?;
        section.within("write_seconds", self.write_seconds, 1..=600)?;
        section.within("connections", self.connections, 1..=100_000)?;
        section.within(
            "concurrency_minimum",
            self.concurrency_minimum,
            1..=self.concurrency_maximum,
        )?;
        section.within("concurrency_maximum", self.concurrency_maximum, 1..=10_000)?;
        section.within("queue_ms", self.queue_ms, 0..=10_000)?;
        section.within(
            "user_requests_per_second",
            self.user_requests_per_second,
            0..=1_000_000,
        )?;
        section.within("user_burst", self.user_burst, 1..=1_000_000)?;
        section.within(
            "user_events_per_second",
            self.user_events_per_second,
            0..=1_000_000,
        )?;
        // A call has up to a hundred events, and one with more than the burst could never pass.
        section.within("user_events_burst", self.user_events_burst, 100..=1_000_000)?;
        section.within("exploration_share", self.exploration_share, 0.0..=1.0)?;
        CorsOrigins::parse(&self.cors_origins).map_err(|cause| ConfigError::Origin {
            path: path.to_owned(),
            cause,
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn defaults_are_those_of_the_server() {
        assert_eq!(Serve::default().limits(), Limits::default());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = |text: &str| {
            let error = Config::parse(&format!("[serve]\n{text}"), Path::new("x.toml"));
            error.unwrap_err().to_string()
        };
        assert_eq!(
            refused("concurrency_minimum = 300"),
            "configuration x.toml, section [serve]: concurrency_minimum is 300, expected 1 to 256"
        );
        // A percentage taken as a share would make every list random.
        for share in ["5", "1.001", "-0.1", "nan", "inf", "-inf"] {
            let said = refused(&format!("exploration_share = {share}"));
            let expected = format!(
                "configuration x.toml, section [serve]: exploration_share is {}, expected 0 to 1",
                share.replace("nan", "NaN")
            );
            assert_eq!(said, expected);
        }
        for share in ["0", "0.05", "1"] {
            let text = format!("[serve]\nexploration_share = {share}");
            Config::parse(&text, Path::new("x.toml")).unwrap();
        }
        let origin = refused("cors_origins = [\"https://app.example/\"]");
        assert!(origin.contains("https://app.example/"), "{origin}");
        let unlimited = Serve {
            user_requests_per_second: 0,
            user_events_per_second: 0,
            ..Serve::default()
        };
        assert_eq!(unlimited.limits().user_rate, None);
        assert_eq!(unlimited.limits().user_events, None);
        assert_eq!(
            refused("user_events_burst = 99"),
            "configuration x.toml, section [serve]: user_events_burst is 99, expected 100 to 1000000"
        );
    }
}
