use super::admission::{Concurrency, UserRate};
use std::time::Duration;

/// How long things may take, and how many may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a request's headers to arrive, and for an idle connection to send its next request.
    pub header_read: Duration,
    /// For a request's body to arrive.
    pub body_read: Duration,
    /// For a client to take anything more of its answer.
    pub write: Duration,
    /// For a client to send the rest of a request that has its answer already, and to take that answer.
    pub linger: Duration,
    /// For one step in the database.
    pub database: Duration,
    /// For a whole request.
    pub request: Duration,
    /// For an answer that knows what the user has liked by now; then comes one without. 0: as long as `database`.
    pub soft_deadline: Duration,
    /// How long answers are given again, if nothing has changed.
    pub answers_kept: Duration,
    /// For requests in flight to end after the server was told to stop.
    pub drain: Duration,
    /// Between looks at which model version is active.
    pub active_model_poll: Duration,
    /// Between re-reads of titles, like counts and new vectors.
    pub catalogue_poll: Duration,
    /// Between tries to hear of changes, where the database passes on no word of them.
    pub listen_again: Duration,
    /// Open connections.
    pub connections: usize,
    /// Requests worked on at once; more wait for a short time, and then are told to come back.
    pub concurrency: Concurrency,
    /// Requests of one user; none is told to come back where this is absent.
    pub user_rate: Option<UserRate>,
}

impl Limits {
    /// What an answer waits for the database to say what the user has liked; `None` for as long as the database may take.
    pub(super) fn soft(&self) -> Option<Duration> {
        (!self.soft_deadline.is_zero()).then_some(self.soft_deadline)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(5),
            write: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            database: Duration::from_secs(2),
            soft_deadline: Duration::from_millis(150),
            answers_kept: Duration::from_mins(5),
            request: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            active_model_poll: Duration::from_secs(3),
            catalogue_poll: Duration::from_mins(1),
            listen_again: Duration::from_mins(3),
            connections: 2048,
            concurrency: Concurrency {
                minimum: 8,
                maximum: 256,
                queue: Duration::from_millis(100),
            },
            user_rate: Some(UserRate {
                per_second: 50,
                burst: 100,
            }),
        }
    }
}
