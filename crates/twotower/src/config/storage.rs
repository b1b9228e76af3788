use super::ConfigError;
use super::error::Section;
use serde::{Deserialize, Serialize};
use std::path::Path;
use twotower_core::time::DAY_MINUTES;

/// Section `[storage]`: where models are published to and fetched from. Credentials and private
/// keys do not belong there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// `supabase://bucket/prefix`, `s3://bucket/prefix` or a folder.
    pub url: Option<String>,
    /// Server of the bucket; AWS's own if not given.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Supabase project of a bucket that is accessed over its REST API.
    pub supabase_url: Option<String>,
    /// Public keys; a fetched model must be signed with one of them.
    pub trusted_keys: Vec<String>,
    /// Time limit of a whole command, minutes.
    pub deadline_minutes: u32,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            supabase_url: None,
            trusted_keys: Vec::new(),
            deadline_minutes: 60,
        }
    }
}

impl Storage {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let section = Section {
            path,
            name: "storage",
        };
        let week = 7 * u32::from(DAY_MINUTES);
        section.within("deadline_minutes", self.deadline_minutes, 1..=week)
    }
}
