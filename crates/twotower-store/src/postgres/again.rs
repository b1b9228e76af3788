//! Recreates objects of ours that are missing or differ from what the migrations create.

use super::inspection::made_alone;
use super::migrations::{LOCK_TIMEOUT, statements};
use super::session::{query, query_scalar};
use super::{Postgres, Session};
use crate::StoreError;
use serde::{Serialize, Serializer};
use sqlx::AssertSqlSafe;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const VERSIONS: &str = "twotower.model_versions";

/// Continues version numbers after the existing ones, so that none is given twice.
const GO_ON: &str = "SELECT setval('twotower.model_versions', greatest(
    nextval('twotower.model_versions'), coalesce((SELECT max(version) FROM twotower.models), 0) + 1
), false)";

/// Creates a salt if there is none.
const NEW_SALT: &str = "insert into twotower.tombstone_salt";

/// An object of ours that [`Store::make_again`](crate::Store::make_again) can recreate: a schema,
/// table, sequence or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaObject {
    kind: &'static str,
    name: &'static str,
}

/// No object of ours has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the migrations make no table and no function of ours with this name; `twotower doctor` has the names, with their schemas and without arguments"
)]
pub struct NoSuchObject;

impl FromStr for SchemaObject {
    type Err = NoSuchObject;

    fn from_str(name: &str) -> Result<Self, NoSuchObject> {
        made_alone()
            .into_iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, name)| Self { kind, name })
            .ok_or(NoSuchObject)
    }
}

impl fmt::Display for SchemaObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Serialize for SchemaObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Postgres {
    /// In one transaction, so that nobody sees an earlier migration's version of it.
    pub(crate) async fn make_again(
        &self,
        objects: &[SchemaObject],
    ) -> Result<Option<()>, StoreError> {
        let named: Vec<_> = objects.iter().map(|it| (it.kind, it.name)).collect();
        let mut session = self.begin_migrating().await?;
        sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *session).await?;
        let statements = statements::that_make(&named);
        // Decided by what the statement does rather than by its names, which covers dependent
        // objects.
        if statements.iter().any(|it| it.contains(NEW_SALT)) {
            keep_salt(&mut session).await?;
        }
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *session)
                .await?;
        }
        if objects.iter().any(|it| it.name == VERSIONS) {
            query(GO_ON).execute(&mut *session).await?;
        }
        session.commit().await?;
        Ok(Some(()))
    }
}

/// With a new salt, the existing tombstones would silently match nobody.
async fn keep_salt(session: &mut Session) -> Result<(), StoreError> {
    let tombstones = rows(session, "twotower.tombstones").await?;
    if tombstones > 0 && rows(session, "twotower.tombstone_salt").await? == 0 {
        return Err(StoreError::LostSalt(tombstones));
    }
    Ok(())
}

/// Number of rows of a table; none if it is missing.
async fn rows(session: &mut Session, table: &'static str) -> Result<i64, StoreError> {
    let is_there: bool = query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(&mut **session)
        .await?;
    if !is_there {
        return Ok(0);
    }
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    Ok(sqlx::query_scalar(count)
        .persistent(false)
        .fetch_one(&mut **session)
        .await?)
}
