use std::time::Duration;

/// How long things may take, and how many may go on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a request's headers to arrive, and for an idle connection to send its next request.
    pub header_read: Duration,
    /// For a request's body to arrive.
    pub body_read: Duration,
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
    /// Open connections.
    pub connections: usize,
    /// Requests worked on at once; more are told to come back.
    pub requests_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(5),
            database: Duration::from_secs(2),
            request: Duration::from_secs(8),
            soft_deadline: Duration::from_millis(150),
            answers_kept: Duration::from_mins(5),
            drain: Duration::from_secs(10),
            active_model_poll: Duration::from_secs(3),
            catalogue_poll: Duration::from_mins(1),
            connections: 2048,
            requests_in_flight: 256,
        }
    }
}
