use crate::config::Config;
use std::path::PathBuf;

/// An installation: what every job and check starts from. Paths are relative to the working
/// directory.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address of the database. It holds a password and is never displayed.
    pub db_url: String,
    /// The configuration file, if one was named.
    pub config_file: Option<PathBuf>,
    /// The configuration.
    pub config: Config,
}

impl Place {
    /// The file of the embedded database, if that is used.
    pub(super) fn database_file(&self) -> Option<PathBuf> {
        twotower_store::database_file(&self.db_url)
    }
}
