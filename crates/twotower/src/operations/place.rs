use crate::config::Config;
use std::path::PathBuf;

/// Where twotower is at home: what every job and check starts from. Paths are relative to the working directory.
#[derive(Debug, Clone)]
pub struct Place {
    /// Address of the database. Holds a password: never shown.
    pub db_url: String,
    /// The configuration file, if one was named.
    pub config_file: Option<PathBuf>,
    /// What it says.
    pub config: Config,
}

impl Place {
    /// The file of the embedded database, if it is that one.
    pub(super) fn database_file(&self) -> Option<PathBuf> {
        let file = self.db_url.strip_prefix("sqlite:")?;
        let file = file.strip_prefix("//").unwrap_or(file);
        file.split('?').next().map(PathBuf::from)
    }
}
