//! Objects of ours that are missing, or are not what the migrations make of them, made again.

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

/// No version is given twice: numbers go on behind those that there are.
const GO_ON: &str = "SELECT setval('twotower.model_versions', greatest(
    nextval('twotower.model_versions'), coalesce((SELECT max(version) FROM twotower.models), 0) + 1
), false)";

/// What makes a salt where there is none.
const NEW_SALT: &str = "insert into twotower.tombstone_salt";

/// A schema, a table, a sequence or a function of ours, which [`Store::make_again`](crate::Store::make_again) makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaObject {
    kind: &'static str,
    name: &'static str,
}

/// Nothing of ours has this name.
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
    /// In one transaction, so that nobody sees what an earlier migration made of it.
    pub(crate) async fn make_again(
        &self,
        objects: &[SchemaObject],
    ) -> Result<Option<()>, StoreError> {
        let named: Vec<_> = objects.iter().map(|it| (it.kind, it.name)).collect();
        let mut session = self.begin_migrating().await?;
        sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *session).await?;
        let statements = statements::that_make(&named);
        // By what is done and not by what is named, whatever brings it along.
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

/// With a salt of their own, tombstones that are there would be those of nobody, and nothing would say so.
async fn keep_salt(session: &mut Session) -> Result<(), StoreError> {
    let tombstones = rows(session, "twotower.tombstones").await?;
    if tombstones > 0 && rows(session, "twotower.tombstone_salt").await? == 0 {
        return Err(StoreError::LostSalt(tombstones));
    }
    Ok(())
}

/// Rows of a table; none where it is missing.
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
