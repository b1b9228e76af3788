//! How long personal data is kept.

use super::ConfigError;
use serde::{Deserialize, Serialize};
use std::path::Path;
use twotower_store::{ErasePlan, Source};

/// Section `[erase]`: what an erasure deletes, and how long models trained before it may stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erase {
    /// Run in the transaction of an erasure, in this order, with the user id as `$1`.
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

/// Section `[prune]`: what is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prune {
    /// Days without a like or skip after which a user is dormant and loses the vector; 0 keeps all.
    pub user_vector_days: u32,
    /// Least number of days without a like before a vector is deleted, if larger than
    /// `user_vector_days`.
    pub active_days: u32,
    /// Number of retired and candidate versions that stay complete, besides the active one and the
    /// target of a rollback.
    pub keep_versions: usize,
    /// Days after which the vectors of failed loads, and vectors of no version, are deleted.
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
    /// A statement that does not name the user would delete the rows of all users.
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

    /// What an erasure deletes if rows are read from `source`.
    ///
    /// If one of likes and skips is read from our own table, the erasure still leaves that table to
    /// the statements if it cannot empty it, for example because it is a view.
    ///
    /// # Errors
    /// [`ConfigError::ErasesHalf`] if likes or skips are read from tables other than ours, and
    /// nothing says how to delete rows there.
    pub fn plan(&self, source: &Source) -> Result<ErasePlan, ConfigError> {
        let plan = ErasePlan {
            likes: Source::is_ours("likes", &source.likes),
            skips: Source::is_ours("skips", &source.skips),
            statements: self.statements.clone(),
        };
        let reads_others = !plan.likes || !plan.skips;
        if reads_others && plan.statements.is_empty() {
            return Err(ConfigError::ErasesHalf);
        }
        Ok(plan)
    }
}

/// Whether `$1` occurs in it other than as the beginning of, say, `$10`.
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
        let tables = |erase: &Erase, source: &Source| {
            let plan = erase.plan(source).unwrap();
            (plan.likes, plan.skips)
        };
        assert_eq!(tables(&erase, &ours), (true, true));
        // Another spelling of our own query.
        let spelled = Source {
            likes: ours.likes.replace("FROM likes", "FROM\n  public.likes;"),
            ..Source::default()
        };
        assert_eq!(tables(&erase, &spelled), (true, true));
        let theirs = Source {
            likes: "SELECT member AS user_id, video_id, created_at FROM favourites".into(),
            ..Source::default()
        };
        let error = erase.plan(&theirs).unwrap_err();
        assert!(matches!(error, ConfigError::ErasesHalf), "{error}");
        erase.statements = vec!["delete from favourites where member = $1".into()];
        assert_eq!(erase.plan(&theirs).unwrap().statements, erase.statements);
        // Skips are still read from our own table, and deleted there.
        assert_eq!(tables(&erase, &theirs), (false, true));
        let swapped = Source {
            skips: theirs.likes.clone(),
            ..Source::default()
        };
        assert_eq!(tables(&erase, &swapped), (true, false));
        // Where our own tables are read, the statements come in addition.
        assert_eq!(tables(&erase, &ours), (true, true));
    }
}
