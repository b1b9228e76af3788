use super::admission::{Concurrency, UserRate};
use std::time::Duration;

/// Deadlines, intervals, and limits on what happens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deadline for the headers of a request, and for the next request on an idle connection.
    pub header_read: Duration,
    /// Deadline for the body of a request.
    pub body_read: Duration,
    /// Longest time in which a client accepts nothing of its answer.
    pub write: Duration,
    /// Time for a client to send the rest of a request that is answered already, and to read that
    /// answer.
    pub linger: Duration,
    /// Deadline of one step in the database.
    pub database: Duration,
    /// Deadline of a whole request.
    pub request: Duration,
    /// Longest wait of an answer for the state of its user. Then a partial answer is made without.
    /// 0: as long as `database`, and no partial answers.
    pub soft_deadline: Duration,
    /// How long an answer may be given again if nothing has changed.
    pub answers_kept: Duration,
    /// Time for requests in flight to end after the server was told to stop.
    pub drain: Duration,
    /// Time between two checks which model version is active.
    pub active_model_poll: Duration,
    /// Time between two reads of titles, like counts and new vectors.
    pub catalogue_poll: Duration,
    /// Time between two tries to listen for changes, where the database sends no notifications.
    pub listen_again: Duration,
    /// Most open connections.
    pub connections: usize,
    /// Limit on requests in flight. Others wait for a short time and are then shed. Calls that
    /// record events have a limit of their own, of the same size.
    pub concurrency: Concurrency,
    /// Limit on each user's requests; `None` for no limit.
    pub user_rate: Option<UserRate>,
    /// Limit on the events that each user may record; `None` for no limit.
    pub user_events: Option<UserRate>,
}

impl Limits {
    /// Longest wait of an answer for the state of its user; `None` for as long as the database may
    /// take.
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
            user_events: Some(UserRate {
                per_second: 2,
                burst: 1000,
            }),
        }
    }
}
