use serde::{Deserialize, Serialize};
use twotower_store::EventPolicy;

/// Section `[events]`: which of the reported events are stored, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Events that are stored; likes and skips themselves are always written.
    pub store: EventPolicy,
    /// `prune` deletes events older than this many days; 0 keeps all.
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
