use serde::{Deserialize, Serialize};

/// Section `[checks]`: what `twotower doctor` and the alerts hold against what they find.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checks {}
