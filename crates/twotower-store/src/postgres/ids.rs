//! Ids in tables of the application: their types, and the texts that are read as UUIDs. Rows that
//! are left out of a source, for their ids or times.

use super::pairs::keeps_times;
use super::session::{Session, query_as, query_scalar};
use super::snapshot::{Query, VIDEOS, interactions, names};
use crate::snapshot::{LeftOut, tell_left_out, tidy};
use crate::{InteractionKind, Source, StoreError};
use sqlx::{AssertSqlSafe, Row};

/// For each of the types $1, in order: whether it is uuid, and its name if it is text. A domain
/// counts as its base type.
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

/// A UUID in any form that PostgreSQL reads, without braces. Lower-case only: used with `~*`, which
/// ignores the case of letters.
const ID: &str = "([0-9a-f]{4}-?){7}[0-9a-f]{4}";

/// The usual forms of a UUID: with hyphens or without, all small letters or all capitals.
const SPELLED: &str = "([0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|[0-9A-F]{8}-([0-9A-F]{4}-){3}[0-9A-F]{12}|[0-9A-F]{32})";

/// The condition that a like or skip has a time that counts: seconds since 1970 in 32 bits.
/// `twotower.is_time` says the same in our SQL functions. Anybody who may write a row of the
/// application's own table may be able to choose its time.
macro_rules! is_time {
    ($at:literal) => {
        concat!(
            "(",
            $at,
            "::timestamptz >= timestamptz '1970-01-01 00:00:00+00' AND ",
            $at,
            "::timestamptz < timestamptz '2106-02-07 06:28:16+00')"
        )
    };
}
pub(super) use is_time;

/// The type in which an id of the application is compared with ours. It is the type of the column,
/// so that an index is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdType {
    Uuid,
    /// Text in a type of this name, quoted.
    Text(String),
    /// Any other type. The column is cast to uuid.
    Cast,
}

/// An SQL array of the eight usual forms of a UUID, in braces and without: those for which
/// [`spells`] holds.
pub(super) fn spellings(id: &str) -> String {
    let hyphens = format!("{id}::text");
    let plain = format!("replace({id}::text, '-', '')");
    let each = [hyphens, plain].map(|text| {
        format!("{text}, upper({text}), '{{' || {text} || '}}', '{{' || upper({text}) || '}}'")
    });
    format!("ARRAY[{}]", each.join(", "))
}

impl<const N: usize> Query<N> {
    /// The columns that hold ids.
    fn ids(&self) -> impl Iterator<Item = &'static str> {
        let ids = self.columns.iter().filter(|(_, kind)| *kind == "uuid");
        ids.map(|&(column, _)| column)
    }

    /// An SQL array of the types of the ids in `source`.
    pub(super) fn types(&self) -> String {
        let types = self
            .ids()
            .map(|column| format!("pg_typeof(source.{column})::oid::bigint"));
        format!("ARRAY[{}]", types.collect::<Vec<_>>().join(", "))
    }

    /// The condition that `holds` is true of each id of `raw` that is text. `None` if no id is
    /// text.
    fn all(&self, types: &[IdType], holds: fn(&str) -> String) -> Option<String> {
        let texts = self.ids().zip(types).filter(|(_, kind)| kind.is_text());
        let each: Vec<String> = texts.map(|(column, _)| holds(column)).collect();
        (!each.is_empty()).then(|| each.join(" AND "))
    }

    /// The condition that a like or skip has a time that counts. `None` for other queries.
    fn time(&self) -> Option<&'static str> {
        let columns = &self.columns;
        let has_time = columns.iter().any(|(column, _)| *column == "created_at");
        has_time.then_some(is_time!("raw.created_at"))
    }

    /// The conditions for rows that are read: [`spells`] for ids that are text, and [`is_time`].
    /// `None` if every row is read.
    fn read(&self, types: &[IdType]) -> Option<String> {
        let conditions = [self.all(types, spells), self.time().map(str::to_owned)];
        let conditions: Vec<String> = conditions.into_iter().flatten().collect();
        (!conditions.is_empty()).then(|| conditions.join(" AND "))
    }

    /// `sql` without rows in which an id is text other than a usual form of a UUID, or of which the
    /// time does not count; `None` if there can be none. For looking rows up by the first id, which
    /// keeps its type so that an index over it is used.
    pub(super) fn looked_up(&self, sql: &str, types: &[IdType]) -> Option<String> {
        let condition = self.read(types)?;
        let others = self.ids().zip(types).skip(1);
        let texts: Vec<&str> = others
            .filter(|(_, kind)| kind.is_text())
            .map(|(column, _)| column)
            .collect();
        let columns = self.columns.map(|(column, _)| {
            // The planner may evaluate the column before the condition of the row.
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
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

/// The condition that a text is a UUID to PostgreSQL, or null. It compares bytes, whatever the
/// collation of the column.
fn is_id(column: &str) -> String {
    format!("((raw.{column}::text COLLATE \"C\" ~* '^({ID}|[{{]{ID}[}}])$') IS NOT FALSE)")
}

/// The condition that a text is one of [`spellings`], which an index over the column finds, or
/// null. Forms with letters of both cases are too many to look for. Serving cannot find them, so
/// training does not read them either.
fn spells(column: &str) -> String {
    format!("((raw.{column}::text COLLATE \"C\" ~ '^({SPELLED}|[{{]{SPELLED}[}}])$') IS NOT FALSE)")
}

/// The types with these OIDs, in order.
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

/// The types of `user_id` and `video_id` in our own table. Empty where the table or one of these
/// columns is missing.
pub(super) async fn types_of_own(
    session: &mut Session,
    kind: InteractionKind,
) -> Result<Vec<IdType>, StoreError> {
    let oids: Vec<i64> = query_scalar(
        "SELECT atttypid::bigint FROM pg_attribute
         WHERE attrelid = to_regclass($1) AND attname IN ('user_id', 'video_id') AND NOT attisdropped
         ORDER BY attname",
    )
    .bind(format!("public.{}", kind.table()))
    .fetch_all(&mut **session)
    .await?;
    if oids.len() < 2 {
        return Ok(Vec::new());
    }
    types(session, &oids).await
}

/// A source without rows in which an id is text other than one of [`spellings`], and without likes
/// and skips whose times do not count. One such row must not fail the reading of all others.
pub(super) struct Sound {
    pub(super) source: Source,
    /// For each query that may have some: its name, and a statement that counts the rows that are
    /// left out, in the order of [`LeftOut`].
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

    /// Logs how many rows are left out.
    pub(super) async fn tell(&self, session: &mut Session) -> Result<(), StoreError> {
        let mut left_out = Vec::with_capacity(self.odd.len());
        for (query, count) in &self.odd {
            // It contains the operator's SQL from the configuration. The transaction is read-only.
            let counts = sqlx::query_as(AssertSqlSafe(count.as_str()))
                .persistent(false)
                .fetch_one(&mut **session)
                .await
                .map_err(|error| StoreError::from(error).in_query(query))?;
            left_out.push(LeftOut::new(query, counts));
        }
        tell_left_out(&left_out);
        Ok(())
    }
}

/// The types of the ids of a query. Reads no row, but fails if a column is missing or cannot be
/// cast to the type it is read as.
pub(super) async fn described<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
) -> Result<Vec<IdType>, StoreError> {
    let is_ours = Source::is_ours(query.name, sql);
    // A role that reads our own tables may have rights to their ids alone.
    let asked = query
        .columns
        .iter()
        .filter(|(_, kind)| !is_ours || *kind == "uuid");
    let columns = asked.map(|(column, kind)| format!("source.{column}::{kind}"));
    // The operator's SQL from the configuration. The transaction is read-only, and only a single
    // statement can be prepared.
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

/// `sql` without the rows that [`Sound`] leaves out, for reading few rows by a column that is no
/// id: an index over that column is used. The first id keeps its type.
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

/// One query of [`Sound`].
async fn sound<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
    odd: &mut Vec<(&'static str, String)>,
) -> Result<String, StoreError> {
    let sql = tidy(sql);
    let types = described(session, query, sql).await?;
    let Some(condition) = query.read(&types) else {
        return Ok(sql.to_owned());
    };
    let or_true = |condition: Option<String>| condition.unwrap_or_else(|| "true".to_owned());
    let (is_id, spells) = (query.all(&types, is_id), query.all(&types, spells));
    // A large table is not read once more to count what it cannot hold.
    let may_be_sound = spells.is_none() && Source::is_ours(query.name, sql);
    if may_be_sound && keeps_times(session, query.name).await? {
        return Ok(sql.to_owned());
    }
    // OFFSET keeps a subquery apart: no time is cast of a row that the query leaves out, and no id
    // before the condition has held for its row.
    let given = format!("SELECT * FROM (\n{sql}\n) AS given OFFSET 0");
    let apart = if spells.is_some() { "OFFSET 0" } else { "" };
    odd.push((
        query.name,
        format!(
            "SELECT count(*) FILTER (WHERE NOT {is_id}), count(*) FILTER (WHERE {is_id} AND NOT ({spells})),
                    count(*) FILTER (WHERE {spells})
             FROM ({given}) AS raw WHERE ({condition}) IS NOT TRUE",
            is_id = or_true(is_id.map(|is_id| format!("({is_id})"))),
            spells = or_true(spells),
        ),
    ));
    Ok(format!(
        "SELECT raw.* FROM ({given}) AS raw WHERE {condition} {apart}"
    ))
}
