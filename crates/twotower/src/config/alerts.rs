use serde::{Deserialize, Serialize};

/// Section `[alerts]`: who is told what is wrong, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {}
