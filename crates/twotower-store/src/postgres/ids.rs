//! Ids of the application's: the type that they have, and which texts can be one of ours.

use super::session::{Session, query_as};
use super::snapshot::{Query, VIDEOS, interactions, names};
use crate::snapshot::{LeftOut, tell_left_out, tidy};
use crate::{Source, StoreError};
use sqlx::{AssertSqlSafe, Row};

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

/// A UUID as PostgreSQL reads it, without braces and whatever the case of its letters.
const ID: &str = "([0-9a-f]{4}-?){7}[0-9a-f]{4}";

/// The usual ways to write one: with hyphens or without, in small letters or in capitals.
const SPELLED: &str = "([0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|[0-9A-F]{8}-([0-9A-F]{4}-){3}[0-9A-F]{12}|[0-9A-F]{32})";

/// How ids of the application's are compared with ours: in the type that they have, which an index over them is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdType {
    Uuid,
    /// Text in a type of this name, quoted.
    Text(String),
    /// Anything else that makes a UUID.
    Cast,
}

/// An array of the usual ways to write a UUID, in braces and without: what [`spells`] one.
pub(super) fn spellings(id: &str) -> String {
    let hyphens = format!("{id}::text");
    let plain = format!("replace({id}::text, '-', '')");
    let each = [hyphens, plain].map(|text| {
        format!("{text}, upper({text}), '{{' || {text} || '}}', '{{' || upper({text}) || '}}'")
    });
    format!("ARRAY[{}]", each.join(", "))
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

    /// The condition that ids of `raw` which are text are UUIDs as `holds` says, or null; `None` if none of them is text.
    fn all(&self, types: &[IdType], holds: fn(&str) -> String) -> Option<String> {
        let texts = self.ids().zip(types).filter(|(_, kind)| kind.is_text());
        let each: Vec<String> = texts.map(|(column, _)| holds(column)).collect();
        (!each.is_empty()).then(|| each.join(" AND "))
    }

    /// `sql` without the rows of which an id is a text that is no UUID, where each of its rows is looked up by the first id: that keeps its
    /// type, so that an index over it is used.
    pub(super) fn looked_up(&self, sql: &str, types: &[IdType]) -> Option<String> {
        let condition = self.all(types, spells)?;
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

/// The condition that a text is a UUID to PostgreSQL. By the digits alone, whatever the collation of the column.
fn is_id(column: &str) -> String {
    format!("((raw.{column}::text COLLATE \"C\" ~* '^({ID}|[{{]{ID}[}}])$') IS NOT FALSE)")
}

/// The condition that it is one of [`spellings`], which an index over the column finds. Of those with letters of both cases there are too many to
/// look for: what cannot be served is not learned from either.
fn spells(column: &str) -> String {
    format!("((raw.{column}::text COLLATE \"C\" ~ '^({SPELLED}|[{{]{SPELLED}[}}])$') IS NOT FALSE)")
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

/// A source without the rows of which an id is a text that is no UUID, or spelled as none is looked for: one user's like of something else is
/// not to end what is read of everybody.
pub(super) struct Sound {
    pub(super) source: Source,
    /// Query, and a statement that counts what is left out of it, what is no UUID and all; of those with such ids alone.
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
            let (no_ids, all): (i64, i64) = sqlx::query_as(AssertSqlSafe(count.as_str()))
                .persistent(false)
                .fetch_one(&mut **session)
                .await?;
            left_out.push(LeftOut {
                query,
                no_ids,
                odd_spellings: all - no_ids,
            });
        }
        tell_left_out(&left_out);
        Ok(())
    }
}

/// What ids of a query are. Reads no row of it, and tries it: every column is there, and can be made what it is read as.
pub(super) async fn described<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
) -> Result<Vec<IdType>, StoreError> {
    let is_ours = Source::is_ours(query.name, sql);
    // Who reads our own tables may need no more of them than ids.
    let asked = query
        .columns
        .iter()
        .filter(|(_, kind)| !is_ours || *kind == "uuid");
    let columns = asked.map(|(column, kind)| format!("source.{column}::{kind}"));
    // The operator's own SQL, from the configuration; the transaction is read-only, and a statement that is prepared is one alone.
    let statement = format!(
        "SELECT {}, {} FROM (VALUES (1)) AS one LEFT JOIN (\n{sql}\n) AS source ON false",
        query.types(),
        columns.collect::<Vec<_>>().join(", ")
    );
    let row = sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_one(&mut **session)
        .await
        .map_err(|error| {
            let error = StoreError::from(error);
            if is_ours {
                error.of_our_query(query.name)
            } else {
                error.of_source(query.name)
            }
        })?;
    let oids: Vec<i64> = row.try_get(0)?;
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
    let conditions = query.all(&types, is_id).zip(query.all(&types, spells));
    let Some((is_id, condition)) = conditions else {
        return Ok(sql.to_owned());
    };
    odd.push((
        query.name,
        format!(
            "SELECT count(*) FILTER (WHERE NOT ({is_id})), count(*) FROM (\n{sql}\n) AS raw WHERE NOT ({condition})"
        ),
    ));
    // Kept apart by OFFSET, so that no cast is asked of a row before it is known to count.
    Ok(format!(
        "SELECT raw.* FROM (\n{sql}\n) AS raw WHERE {condition} OFFSET 0"
    ))
}
