//! The state of a user that answering needs, and the user's blocks.

use super::erasure::{keep_erasures_out, was_erased};
use super::ids::is_time;
use super::mapped::MappedQuery;
use super::session::{query, query_as};
use super::{Postgres, Session};
use crate::user::{Block, BlockKind, UserState};
use crate::{InteractionKind, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{Row, ValueRef};
use std::collections::HashSet;
use std::fmt::Write as _;
use uuid::Uuid;

impl Postgres {
    pub(crate) async fn user_states(
        &self,
        users: &[Uuid],
        skip_limit: u32,
    ) -> Result<Vec<Option<UserState>>, StoreError> {
        let statement = self.states_statement(users, skip_limit);
        let rows = Session::run_alone(&self.pool, &statement, self.statement_timeout).await?;
        states(&rows, users)
    }

    pub(crate) async fn add_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        let mut session = self.begin().await?;
        keep_erasures_out(&mut session).await?;
        let (erased, new): (bool, bool) = query_as(concat!(
            "WITH erased AS (SELECT ", was_erased!("$1"), " AS erased),
             new AS (INSERT INTO public.recommendation_blocks (user_id, kind, value)
                     SELECT $1, $2, $3 FROM erased WHERE NOT erased ON CONFLICT DO NOTHING RETURNING 1)
             SELECT erased, EXISTS (SELECT FROM new) FROM erased"
        ))
        .bind(user)
        .bind(block.kind.as_str())
        .bind(&block.value)
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        if erased {
            return Err(StoreError::ErasedUser);
        }
        Ok(new)
    }

    pub(crate) async fn remove_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        let mut session = self.begin().await?;
        let done = query(
            "DELETE FROM public.recommendation_blocks WHERE user_id = $1 AND kind = $2 AND value = $3",
        )
        .bind(user)
        .bind(block.kind.as_str())
        .bind(&block.value)
        .execute(&mut *session)
        .await?;
        session.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Postgres {
    /// The statement that reads the states of `users`, in their order.
    pub(super) fn states_statement(&self, users: &[Uuid], skip_limit: u32) -> String {
        // A parameter would cost an extra round trip to resolve its type. This is as safe: a `Uuid`
        // is formatted as 32 hexadecimal digits and four hyphens, whatever text it was parsed from,
        // and a `u32` as digits.
        let mut asked = String::with_capacity(37 * users.len());
        for user in users {
            if !asked.is_empty() {
                asked.push(',');
            }
            let _ = write!(asked, "{}", user.hyphenated());
        }
        let (likes, skips) = (
            self.mapped_interactions(InteractionKind::Like),
            self.mapped_interactions(InteractionKind::Skip),
        );
        let limit = (skip_limit != UserState::EVERY_SKIP).then_some(skip_limit);
        if likes.is_some() || skips.is_some() {
            return mapped_statement(&asked, likes, skips, limit);
        }
        let limit = limit.map_or_else(|| "NULL".to_owned(), |limit| limit.to_string());
        format!(
            "SELECT erased, likes, skips, blocks
             FROM unnest('{{{asked}}}'::uuid[]) WITH ORDINALITY AS asked (id, place), twotower.user_state(asked.id, {limit}::bigint)
             ORDER BY place"
        )
    }
}

/// The data of `twotower.user_state` for likes or skips in the application's own tables.
///
/// A user's rows are found by the user's id. Of two rows for one video the earlier counts, as in
/// training. Nothing is read of an erased user. The queries are the operator's own SQL, so the
/// transaction is read-only, and our names cannot hide the application's tables.
fn mapped_statement(
    asked: &str,
    likes: Option<&MappedQuery>,
    skips: Option<&MappedQuery>,
    skip_limit: Option<u32>,
) -> String {
    let done = |query: Option<&MappedQuery>, table: &str| {
        match query {
        Some(query) => format!(
            "SELECT source.video_id::uuid AS video_id, min(source.created_at::timestamptz) AS created_at
             FROM {} WHERE {} GROUP BY source.video_id::uuid",
            query.rows(),
            query.is("user_id", "asked.id")
        ),
        None => format!(
            "SELECT own.video_id::uuid AS video_id, own.created_at FROM public.{table} AS own
             WHERE own.user_id = asked.id AND {}",
            is_time!("own.created_at")
        ),
    }
    };
    let (likes, mut skips) = (done(likes, "likes"), done(skips, "skips"));
    if let Some(limit) = skip_limit {
        skips = format!(
            "SELECT skipped.video_id, skipped.created_at FROM (\n{skips}\n) AS skipped
             ORDER BY skipped.created_at DESC, skipped.video_id DESC LIMIT {limit}"
        );
    }
    format!(
        concat!(
            "SET LOCAL transaction_read_only = on;
             SELECT erased,
                 CASE WHEN NOT erased THEN (
                     SELECT string_agg(uuid_send(liked.video_id), ''::bytea ORDER BY liked.created_at, liked.video_id) FROM (\n{likes}\n) AS liked
                 ) END,
                 CASE WHEN NOT erased THEN (
                     SELECT string_agg(uuid_send(latest.video_id), ''::bytea ORDER BY latest.created_at, latest.video_id) FROM (\n{skips}\n) AS latest
                 ) END,
                 CASE WHEN NOT erased THEN (
                     SELECT json_agg(json_build_array(kind, value) ORDER BY kind COLLATE \"C\", value COLLATE \"C\")::text
                     FROM public.recommendation_blocks WHERE user_id = asked.id
                 ) END
             FROM (
                 SELECT each.id, each.place, ",
            was_erased!("each.id"),
            " AS erased FROM unnest('{{{asked}}}'::uuid[]) WITH ORDINALITY AS each (id, place) OFFSET 0
             ) AS asked ORDER BY place"
        ),
        likes = likes,
        skips = skips,
        asked = asked,
    )
}

/// Decodes the rows of [`Postgres::states_statement`].
pub(super) fn states(rows: &[PgRow], users: &[Uuid]) -> Result<Vec<Option<UserState>>, StoreError> {
    if rows.len() != users.len() {
        return Err(sqlx::Error::RowNotFound.into());
    }
    rows.iter().map(state).collect()
}

/// Nothing of an erased user.
fn state(row: &PgRow) -> Result<Option<UserState>, StoreError> {
    if row.try_get(0)? {
        return Ok(None);
    }
    Ok(Some(UserState {
        likes: distinct(ids(row, 1)?),
        skips: distinct(ids(row, 2)?),
        blocks: blocks(row.try_get(3)?)?,
    }))
}

/// The ids that are concatenated in a column of bytes; none if it is null.
///
/// Bytes arrive as hexadecimal digits, since [`Postgres::states_statement`] has no parameters. An
/// id's digits are parsed as one number: the library's decoding of single bytes takes longer than
/// the rest of the row.
fn ids(row: &PgRow, column: usize) -> Result<Vec<Uuid>, StoreError> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(Vec::new());
    }
    let wrong = |source| StoreError::from(sqlx::Error::Decode(source));
    let text = value.as_str().map_err(wrong)?;
    let (ids, rest) = match text.strip_prefix("\\x") {
        Some(digits) => digits.as_bytes().as_chunks::<32>(),
        None => return Err(wrong("bytes that do not begin with \\x".into())),
    };
    if !rest.is_empty() {
        return Err(wrong("bytes that are no whole number of ids".into()));
    }
    ids.iter()
        .map(|digits| Uuid::try_parse_ascii(digits).map_err(|error| wrong(error.into())))
        .collect()
}

/// Each video once, at its first position. The application's own table may have it twice; the
/// earlier row counts, as in training.
pub(super) fn distinct(mut videos: Vec<Uuid>) -> Vec<Uuid> {
    let mut seen = HashSet::with_capacity(videos.len());
    videos.retain(|video| seen.insert(*video));
    videos
}

/// Parses `[[kind, value], …]`, or null.
fn blocks(json: Option<&str>) -> Result<Vec<Block>, StoreError> {
    let rows: Vec<(String, String)> = serde_json::from_str(json.unwrap_or("[]"))
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    rows.into_iter()
        .map(|(kind, value)| {
            let kind = BlockKind::parse(&kind)?;
            Ok(Block { kind, value })
        })
        .collect()
}
