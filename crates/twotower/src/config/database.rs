use super::ConfigError;
use super::error::Section;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use twotower_store::ConnectOptions;

/// A hosted PostgreSQL has about a hundred connections for all its clients.
const MAX_CONNECTIONS: u32 = 99;

/// Section `[database]`: how every command connects to the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// At most this many connections per process.
    pub max_connections: u32,
    /// Time limit of waiting for a connection, seconds.
    pub acquire_timeout_seconds: u32,
    /// Time limit of one statement on the server, seconds; bulk work sets its own.
    pub statement_timeout_seconds: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            max_connections: 8,
            acquire_timeout_seconds: 10,
            statement_timeout_seconds: 30,
        }
    }
}

impl Database {
    /// In the form that the store takes.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions {
            max_connections: self.max_connections,
            acquire_timeout: Duration::from_secs(self.acquire_timeout_seconds.into()),
            statement_timeout: Duration::from_secs(self.statement_timeout_seconds.into()),
        }
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let section = Section {
            path,
            name: "database",
        };
        section.within("max_connections", self.max_connections, 1..=MAX_CONNECTIONS)?;
        section.within(
            "acquire_timeout_seconds",
            self.acquire_timeout_seconds,
            1..=600,
        )?;
        section.within(
            "statement_timeout_seconds",
            self.statement_timeout_seconds,
            1..=3600,
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn connections_are_capped() {
        let parse = |text: &str| Config::parse(text, Path::new("x.toml"));
        let config = parse("[database]\nmax_connections = 99").unwrap();
        assert_eq!(config.database.options().max_connections, 99);
        let error = parse("[database]\nmax_connections = 100").unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration x.toml, section [database]: max_connections is 100, expected 1 to 99"
        );
        assert!(parse("[database]\nstatement_timeout_seconds = 0").is_err());
    }
}
