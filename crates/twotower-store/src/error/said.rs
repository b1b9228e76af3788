//! Text of database errors for people, with the query or statement of the configuration that caused
//! them.

use super::{StoreError, value};

/// The message without the driver's additions: PostgreSQL errors come with a line of the server's
/// source code.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// Advice for `tombstones` tombstones without their salt.
pub(super) fn lost_salt(tombstones: i64) -> String {
    format!(
        "the salt of the tombstones is gone, and tombstones of erased users ({tombstones}) are left: with a new salt they would hold no more, and those \
         users could come back, so that nothing was made again. Put the salt back first, from `tombstone_salt.jsonl` of a backup of ours (column salt) \
         or from column salt of twotower.tombstone_salt in a copy of the database, as hexadecimal digits: `create table if not exists \
         twotower.tombstone_salt (singleton boolean primary key default true check (singleton), salt bytea not null check (octet_length(salt) = 32)); \
         insert into twotower.tombstone_salt (salt) values (decode('DIGITS', 'hex'));`, and run this again. Where no copy is left: \
         `truncate twotower.tombstones;`, run this again, and erase those users anew with `twotower erase`"
    )
}

impl StoreError {
    /// The error of query `key` of the source. Missing tables are reported as a fault of the query
    /// rather than of the migrations. Faults of the database itself stay unchanged.
    pub(crate) fn of_source(self, key: &'static str) -> Self {
        match self.of_operator() {
            Ok(reason) => Self::Source { key, reason },
            Err(error) => error,
        }
    }

    /// The same for one of our own queries. A migration creates a missing table; a table of another
    /// form is the application's.
    pub(crate) fn of_our_query(self, key: &'static str) -> Self {
        match self {
            Self::Schema(error) if lacks_table(&error) => Self::Schema(error),
            error @ (Self::Schema(_) | Self::Database(_)) => match error.of_operator() {
                Ok(reason) => Self::Unmapped { key, reason },
                Err(error) => error,
            },
            error => error,
        }
    }

    /// The error of one of the operator's erasure statements. `bytes`: whether the id is passed as
    /// bytes.
    pub(crate) fn of_erase(self, number: usize, bytes: bool) -> Self {
        let reason = match self {
            Self::Constraint { cause, .. } => Ok(said(&cause)),
            error @ Self::ReadOnly(_) => Err(error),
            error => error.of_operator(),
        };
        match reason {
            Ok(reason) => Self::Statement {
                number,
                reason,
                bytes,
            },
            Err(error) => error,
        }
    }

    /// Why the operator's SQL fails; or the error itself, if the cause is not the SQL.
    fn of_operator(self) -> Result<String, Self> {
        match self {
            Self::Database(error) if !is_of_statement(&error) => Err(Self::Database(error)),
            Self::Schema(error)
            | Self::Permission(error)
            | Self::ReadOnly(error)
            | Self::Database(error) => Ok(said(&error)),
            Self::Row { column, reason, .. } => Ok(format!("column {column} {reason}")),
            Self::Value { code, .. } => Ok(format!(
                "a value is not what is asked for (SQLSTATE {code}, {})",
                value::condition(&code)
            )),
            error => Err(error),
        }
    }
}

/// Whether the database rejected the statement instead of failing itself: unsupported features,
/// syntax and access errors of PostgreSQL, and `SQLITE_ERROR`.
fn is_of_statement(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return true;
    };
    let code = error.code().unwrap_or_default();
    code == "1" || ["0A", "42"].iter().any(|class| code.starts_with(class))
}

/// Whether the table does not exist.
fn lacks_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().is_some_and(|code| code == "42P01")
            || error.message().starts_with("no such table")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::time::Duration;

    #[test]
    fn an_error_that_says_its_cause_does_not_hand_it_on() {
        let cause = || sqlx::Error::WorkerCrashed;
        let words = cause().to_string();
        for error in [
            StoreError::Connect {
                address: "postgresql://db.example/app".into(),
                cause: cause(),
            },
            StoreError::Connection(cause()),
            StoreError::Busy(cause()),
            StoreError::Cancelled(cause()),
            StoreError::MigrationLocked {
                version: "1",
                name: "first",
                tries: 3,
                cause: cause(),
            },
            StoreError::EraseLocked {
                waited: Duration::from_secs(1),
                reason: "another transaction keeps a lock".into(),
                cause: cause(),
            },
            StoreError::ReadOnly(cause()),
            StoreError::Schema(cause()),
            StoreError::Permission(cause()),
            StoreError::Constraint {
                constraint: "key".into(),
                cause: cause(),
            },
            StoreError::Database(cause()),
        ] {
            assert_eq!(error.to_string().matches(&words).count(), 1, "{error}");
            assert!(error.source().is_none(), "{error}");
        }
    }
}
