//! How long what is known of people is kept.

use super::ConfigError;
use serde::{Deserialize, Serialize};
use std::path::Path;
use twotower_store::{ErasePlan, Source};

/// Section `[erase]`: what an erasure deletes, and until when models trained before it may be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erase {
    /// Run in the transaction of an erasure, in this order, with the id of the user as `$1`.
    pub statements: Vec<String>,
    /// Days from an erasure until a version trained before it is pruned.
    pub retire_days: u32,
}

impl Default for Erase {
    fn default() -> Self {
        Self {
            statements: Vec::new(),
            retire_days: 30,
        }
    }
}

/// Section `[prune]`: what is kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prune {
    /// Days without a like or skip after which a user is dormant and has no vector any more; 0 keeps all.
    pub user_vector_days: u32,
    /// Days without a like before a vector is deleted, where that is longer.
    pub active_days: u32,
    /// Retired and candidate versions that stay complete, besides the active one and the one a rollback leads to.
    pub keep_versions: usize,
    /// Days after which the vectors of failed loads, and those that belong to no version, are deleted.
    pub failed_days: u32,
}

impl Default for Prune {
    fn default() -> Self {
        Self {
            user_vector_days: 30,
            active_days: 7,
            keep_versions: 3,
            failed_days: 7,
        }
    }
}

impl Erase {
    /// A statement that does not name the user would delete everybody's rows.
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let careless = |statement: &&String| !names_the_user(statement);
        match self.statements.iter().find(careless) {
            Some(statement) => Err(ConfigError::Statement {
                path: path.to_owned(),
                statement: statement.clone(),
            }),
            None => Ok(()),
        }
    }

    /// What an erasure deletes where rows are read from `source`.
    ///
    /// # Errors
    /// [`ConfigError::ErasesHalf`] if likes or skips are read from other tables than ours, and nothing says how rows there are
    /// deleted.
    pub fn plan(&self, source: &Source) -> Result<ErasePlan, ConfigError> {
        let ours = Source::default();
        let application_tables = source.likes == ours.likes && source.skips == ours.skips;
        if !application_tables && self.statements.is_empty() {
            return Err(ConfigError::ErasesHalf);
        }
        Ok(ErasePlan {
            application_tables,
            statements: self.statements.clone(),
        })
    }
}

/// Whether `$1` stands in it, and not only as the beginning of `$10`.
fn names_the_user(statement: &str) -> bool {
    let mut after = statement.split("$1").skip(1);
    after.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_statement_without_the_user_is_refused() {
        let parse = |statement: &str| {
            let text = format!("[erase]\nstatements = [\"{statement}\"]");
            Config::parse(&text, Path::new("x.toml")).map(|config| config.erase.statements)
        };
        assert!(parse("delete from favourites where member = $1").is_ok());
        for careless in [
            "delete from favourites",
            "",
            "delete from favourites where x = $10",
        ] {
            let error = parse(careless).unwrap_err().to_string();
            assert!(error.contains("does not name the user as $1"), "{error}");
        }
    }

    #[test]
    fn other_tables_need_statements_of_their_own() {
        let mut erase = Erase::default();
        let ours = Source::default();
        assert!(erase.plan(&ours).unwrap().application_tables);
        let theirs = Source {
            likes: "SELECT member AS user_id, video_id, created_at FROM favourites".into(),
            ..Source::default()
        };
        let error = erase.plan(&theirs).unwrap_err();
        assert!(matches!(error, ConfigError::ErasesHalf), "{error}");
        erase.statements = vec!["delete from favourites where member = $1".into()];
        let plan = erase.plan(&theirs).unwrap();
        assert!(!plan.application_tables && plan.statements == erase.statements);
        // In addition to our own tables, where those are read.
        assert!(erase.plan(&ours).unwrap().application_tables);
    }
}
