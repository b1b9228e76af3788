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
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            database_ms: 2000,
            request_seconds: 8,
        }
    }
}

impl Serve {
    /// As deadlines and caps.
    pub fn limits(&self) -> Limits {
        Limits {
            database: Duration::from_millis(self.database_ms.into()),
            request: Duration::from_secs(self.request_seconds.into()),
            ..Limits::default()
        }
    }
}
