//! Ids of the application's: the type that they have, and which texts can be one of ours.

use super::session::{Session, query_as};
use super::snapshot::{Query, VIDEOS, interactions, names};
use crate::snapshot::{tell_left_out, tidy};
use crate::{Source, StoreError};
use sqlx::AssertSqlSafe;

/// What ids of types are compared as, in their order: a domain is what it is made of.
const TYPES: &str = "
    WITH RECURSIVE base AS (
        SELECT place, kind.oid, typtype, typbasetype, typcategory, typname, typnamespace
        FROM unnest($1::bigint[]) WITH ORDINALITY AS asked (id, place) JOIN pg_catalog.pg_type AS kind ON kind.oid = asked.id::oid
        UNION ALL
        SELECT place, made.oid, made.typtype, made.typbasetype, made.typcategory, made.typname, made.typnamespace
        FROM base JOIN pg_catalog.pg_type AS made ON made.oid = base.typbasetype WHERE base.typtype = 'd'
    )
    SELECT base.oid = 'pg_catalog.uuid'::regtype, CASE WHEN typcategory = 'S' THEN format('%I.%I', nspname, typname) END
    FROM base JOIN pg_catalog.pg_namespace ON pg_namespace.oid = typnamespace WHERE typtype <> 'd' ORDER BY place";

/// The usual ways to write a UUID, all of which PostgreSQL reads as one: with hyphens or without, in small letters or in capitals.
const UUID: &str = "^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$";

/// How ids of the application's are compared with ours: in the type that they have, which an index over them is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdType {
    Uuid,
    /// Text in a type of this name, quoted.
    Text(String),
    /// Anything else that makes a UUID.
    Cast,
}

/// An array of the usual ways to write a UUID.
pub(super) fn spellings(id: &str) -> String {
    format!(
        "ARRAY[{id}::text, upper({id}::text), replace({id}::text, '-', ''), upper(replace({id}::text, '-', ''))]"
    )
}

impl<const N: usize> Query<N> {
    /// Columns that are ids.
    fn ids(&self) -> impl Iterator<Item = &'static str> {
        let ids = self.columns.iter().filter(|(_, kind)| *kind == "uuid");
        ids.map(|&(column, _)| column)
    }

    /// An SQL expression for the types of its ids in `source`.
    pub(super) fn types(&self) -> String {
        let types = self
            .ids()
            .map(|column| format!("pg_typeof(source.{column})::oid::bigint"));
        format!("ARRAY[{}]", types.collect::<Vec<_>>().join(", "))
    }

    /// The condition that ids of `raw` which are text are UUIDs, or null; `None` if none of them is text.
    fn spells(&self, types: &[IdType]) -> Option<String> {
        let texts = self.ids().zip(types).filter(|(_, kind)| kind.is_text());
        let spells: Vec<String> = texts.map(|(column, _)| spells(column)).collect();
        (!spells.is_empty()).then(|| spells.join(" AND "))
    }

    /// `sql` without the rows of which an id is a text that is no UUID, where each of its rows is looked up by the first id: that keeps its
    /// type, so that an index over it is used.
    pub(super) fn looked_up(&self, sql: &str, types: &[IdType]) -> Option<String> {
        let condition = self.spells(types)?;
        let others = self.ids().zip(types).skip(1);
        let texts: Vec<&str> = others
            .filter(|(_, kind)| kind.is_text())
            .map(|(column, _)| column)
            .collect();
        let columns = self.columns.map(|(column, _)| {
            // The planner may ask for it before it has asked whether the row counts.
            if texts.contains(&column) {
                format!(
                    "CASE WHEN {} THEN raw.{column}::uuid END AS {column}",
                    spells(column)
                )
            } else {
                format!("raw.{column}")
            }
        });
        Some(format!(
            "SELECT {} FROM (\n{sql}\n) AS raw WHERE {condition}",
            columns.join(", ")
        ))
    }
}

impl IdType {
    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

/// By the digits alone, whatever the collation of the column.
fn spells(column: &str) -> String {
    format!("((raw.{column}::text COLLATE \"C\" ~* '{UUID}') IS NOT FALSE)")
}

/// The types of these numbers.
pub(super) async fn types(session: &mut Session, oids: &[i64]) -> Result<Vec<IdType>, StoreError> {
    let rows: Vec<(bool, Option<String>)> =
        query_as(TYPES).bind(oids).fetch_all(&mut **session).await?;
    let kind = |(is_uuid, text)| match text {
        _ if is_uuid => IdType::Uuid,
        Some(kind) => IdType::Text(kind),
        None => IdType::Cast,
    };
    Ok(rows.into_iter().map(kind).collect())
}

/// A source without the rows of which an id is a text that is no UUID: one user's like of something else is not to end what is read of
/// everybody.
pub(super) struct Sound {
    pub(super) source: Source,
    /// Query, and a statement that counts what is left out of it; of those with such ids alone.
    odd: Vec<(&'static str, String)>,
}

impl Sound {
    pub(super) async fn of(session: &mut Session, source: &Source) -> Result<Self, StoreError> {
        let odd = &mut Vec::new();
        let performers = &source.video_performers;
        Ok(Self {
            source: Source {
                videos: sound(session, &VIDEOS, &source.videos, odd).await?,
                video_tags: sound(session, &names("video_tags"), &source.video_tags, odd).await?,
                video_performers: sound(session, &names("video_performers"), performers, odd)
                    .await?,
                likes: sound(session, &interactions("likes"), &source.likes, odd).await?,
                skips: sound(session, &interactions("skips"), &source.skips, odd).await?,
            },
            odd: std::mem::take(odd),
        })
    }

    /// Says how many rows are left out.
    pub(super) async fn tell(&self, session: &mut Session) -> Result<(), StoreError> {
        let mut left_out = Vec::with_capacity(self.odd.len());
        for (query, count) in &self.odd {
            // Around the operator's own SQL, from the configuration; the transaction is read-only.
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count.as_str()))
                .persistent(false)
                .fetch_one(&mut **session)
                .await?;
            left_out.push((*query, rows));
        }
        tell_left_out(&left_out);
        Ok(())
    }
}

/// What ids of a query are.
async fn described<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
) -> Result<Vec<IdType>, StoreError> {
    // The operator's own SQL, from the configuration; the transaction is read-only, and a statement that is prepared is one alone.
    let statement = format!(
        "SELECT {} FROM (VALUES (1)) AS one LEFT JOIN (\n{sql}\n) AS source ON false",
        query.types()
    );
    let oids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_one(&mut **session)
        .await?;
    types(session, &oids).await
}

/// `sql` without the rows of which an id is a text that is no UUID, where few of its rows are asked for by another column than an id: an index
/// over that is used. The first id keeps its type.
pub(super) async fn open<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
) -> Result<String, StoreError> {
    let sql = tidy(sql);
    let types = described(session, query, sql).await?;
    let looked_up = query.looked_up(sql, &types);
    Ok(looked_up.unwrap_or_else(|| sql.to_owned()))
}

/// The same as in [`Sound`] of one query.
async fn sound<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
    odd: &mut Vec<(&'static str, String)>,
) -> Result<String, StoreError> {
    let sql = tidy(sql);
    let types = described(session, query, sql).await?;
    let Some(condition) = query.spells(&types) else {
        return Ok(sql.to_owned());
    };
    odd.push((
        query.name,
        format!("SELECT count(*) FROM (\n{sql}\n) AS raw WHERE NOT ({condition})"),
    ));
    // Kept apart by OFFSET, so that no cast is asked of a row before it is known to count.
    Ok(format!(
        "SELECT raw.* FROM (\n{sql}\n) AS raw WHERE {condition} OFFSET 0"
    ))
}
