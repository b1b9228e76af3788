//! One like and one skip per user and video, even if the application's own table has no key that
//! ensures it.

use super::ids::is_time;
use super::session::{query, query_as, query_scalar};
use super::{Session, erasure};
use crate::{InteractionKind, StoreError};
use uuid::Uuid;

/// Key of the lock that writers of likes and skips share: "pairs" in ASCII.
const LOCK: i64 = 0x0070_6169_7273;

/// Class of the locks per user for likes and skips: "pair" in ASCII.
const OF_USERS: i32 = 0x7061_6972;

/// SQL condition that a row of `pg_index` allows one row per user and video, once it is valid.
macro_rules! is_key {
    () => {
        "(indisunique AND indimmediate AND indpred IS NULL AND indnkeyatts = 2 AND 2 = (
             SELECT count(*) FROM pg_attribute
             WHERE attrelid = indrelid AND attnum IN (indkey[0], indkey[1]) AND attname IN ('user_id', 'video_id')
         ))"
    };
}
pub(super) use is_key;

/// SQL condition that the table `own.oid` cannot hold a time that does not count: it has the
/// constraint of our own tables, whose bounds PostgreSQL prints in the session's time zone.
macro_rules! keeps_times {
    () => {
        "EXISTS (
             SELECT FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attname = 'created_at'
             WHERE conrelid = own.oid AND contype = 'c' AND convalidated AND attnotnull AND pg_get_constraintdef(pg_constraint.oid) = format(
                 'CHECK (((created_at >= %L::timestamp with time zone) AND (created_at < %L::timestamp with time zone)))',
                 timestamptz '1970-01-01 00:00:00+00', timestamptz '2106-02-07 06:28:16+00'
             )
         )"
    };
}

/// Whether $1 has such a valid key, whether its user ids are text, and whether it may hold times
/// that do not count. Nothing is known of what is neither a date nor a moment: all of it counts.
const LOOK: &str = concat!(
    "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = own.oid AND indisvalid AND ",
    is_key!(),
    "),
            EXISTS (SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                    WHERE attrelid = own.oid AND attname = 'user_id' AND typcategory = 'S'),
            NOT ",
    keeps_times!(),
    " AND EXISTS (SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                  WHERE attrelid = own.oid AND attname = 'created_at' AND typcategory = 'D'
                  AND atttypid NOT IN ('time'::regtype, 'timetz'::regtype))
     FROM (SELECT to_regclass($1)::oid AS oid) AS own"
);

/// `public.likes` or `public.skips`, which may be the application's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnTable {
    name: &'static str,
    /// Whether the database ensures that no pair of user and video exists twice.
    pub(super) has_key: bool,
    text_users: bool,
    odd_times: bool,
}

impl OwnTable {
    pub(super) async fn look(
        session: &mut Session,
        kind: InteractionKind,
    ) -> Result<Self, StoreError> {
        let name = kind.table();
        let (has_key, text_users, odd_times): (bool, bool, bool) = query_as(LOOK)
            .bind(format!("public.{name}"))
            .fetch_one(&mut **session)
            .await?;
        Ok(Self {
            name,
            has_key,
            text_users,
            odd_times,
        })
    }

    /// Inserts missing rows: users ($1), videos ($2), and times in microseconds ($3), without
    /// duplicate pairs. Without a key, the users once more ($4), in any order: their rows are
    /// looked up, rather than each pair, for which the planner may scan the whole table.
    pub(super) fn insert(self) -> String {
        let Self {
            name, text_users, ..
        } = self;
        let unless_there = if self.has_key {
            String::new()
        } else {
            let text = if text_users { "::text[]" } else { "" };
            format!(
                "WHERE NOT EXISTS (
                     SELECT FROM public.{name} AS old
                     WHERE old.user_id = ANY ($4::uuid[]{text}) AND old.user_id = new.user_id AND old.video_id = new.video_id
                 )"
            )
        };
        format!(
            "INSERT INTO public.{name} (user_id, video_id, created_at)
             SELECT user_id, video_id, timestamptz 'epoch' + at_us * interval '1 microsecond'
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS new (user_id, video_id, at_us)
             {unless_there} ON CONFLICT DO NOTHING"
        )
    }

    /// The condition that the time of a row counts.
    pub(super) fn counts(self) -> &'static str {
        if self.odd_times {
            is_time!("created_at")
        } else {
            "true"
        }
    }

    /// The FROM item with each pair once, of the rows whose times count.
    pub(super) fn pairs(self) -> String {
        let name = self.name;
        let distinct = if self.has_key { "" } else { "DISTINCT " };
        format!(
            "(SELECT {distinct}user_id, video_id FROM public.{name} WHERE {}) AS {name}",
            self.counts()
        )
    }
}

/// Whether `likes` or `skips` by that name is the table in `public`, and cannot hold a time that
/// does not count.
pub(super) async fn keeps_times(
    session: &mut Session,
    name: &'static str,
) -> Result<bool, StoreError> {
    let keeps: Option<bool> = query_scalar(concat!(
        "SELECT to_regclass($1) = own.oid AND ",
        keeps_times!(),
        " FROM (SELECT to_regclass('public.' || $1)::oid AS oid) AS own"
    ))
    .bind(name)
    .fetch_one(&mut **session)
    .await?;
    Ok(keeps.unwrap_or(false))
}

/// Keeps all other writers of likes and skips out until the end of the transaction, so that rows
/// which the following statements do not find cannot be inserted meanwhile.
pub(super) async fn keep_writers_out(session: &mut Session) -> Result<(), StoreError> {
    query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// The same for the likes and skips of one user, and keeps erasures out as
/// [`super::erasure::keep_erasures_out`] does, in one round trip. Does not check for a key, which
/// would cost a request more than the locks.
pub(super) async fn keep_others_out(session: &mut Session, user: Uuid) -> Result<(), StoreError> {
    query(
        "SELECT pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock_shared($2), pg_advisory_xact_lock($3, $4)",
    )
    .bind(erasure::LOCK)
    .bind(LOCK)
    .bind(OF_USERS)
    .bind(fold(user))
    .execute(&mut **session)
    .await?;
    Ok(())
}

/// 32 bits of an id. Users who share them wait for each other, which is harmless.
fn fold(user: Uuid) -> i32 {
    let id = user.as_u128();
    (id ^ (id >> 32) ^ (id >> 64) ^ (id >> 96)) as i32
}
