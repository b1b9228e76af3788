use serde::{Deserialize, Serialize};
use twotower_store::EventPolicy;

/// Section `[events]`: what is kept of what users report, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Which events are kept; likes and skips themselves are written in any case.
    pub store: EventPolicy,
    /// Days after which `prune` deletes them; 0 keeps all.
    pub retention_days: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            store: EventPolicy::All,
            retention_days: 90,
        }
    }
}
