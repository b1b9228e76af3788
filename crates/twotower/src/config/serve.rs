use crate::serve::Limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Section `[serve]`: how requests are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// For one step in the database, milliseconds.
    pub database_ms: u32,
    /// For a whole request, seconds.
    pub request_seconds: u32,
    /// For an answer that knows what the user has liked by now, milliseconds; then comes one without. 0: for as long as
    /// `database_ms`.
    pub soft_deadline_ms: u32,
    /// Answers are given again for so long, if nothing has changed.
    pub cache_seconds: u32,
    /// Share of a list that is given to new videos drawn at random, 0 to 1.
    pub exploration_share: f32,
    /// Days after publication for which a video is new.
    pub new_days: u32,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            database_ms: 2000,
            request_seconds: 8,
            soft_deadline_ms: 150,
            cache_seconds: 300,
            exploration_share: 0.0,
            new_days: 14,
        }
    }
}

impl Serve {
    /// As deadlines and caps.
    pub fn limits(&self) -> Limits {
        Limits {
            database: Duration::from_millis(self.database_ms.into()),
            request: Duration::from_secs(self.request_seconds.into()),
            soft_deadline: Duration::from_millis(self.soft_deadline_ms.into()),
            answers_kept: Duration::from_secs(self.cache_seconds.into()),
            ..Limits::default()
        }
    }
}
