//! One like and one skip per user and video, even if the application's own table has no key that
//! ensures it.

use super::session::{query, query_as};
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

/// Whether $1 has such a valid key, and whether its user ids are text.
const LOOK: &str = concat!(
    "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = own.oid AND indisvalid AND ",
    is_key!(),
    "),
            EXISTS (SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                    WHERE attrelid = own.oid AND attname = 'user_id' AND typcategory = 'S')
     FROM (SELECT to_regclass($1)::oid AS oid) AS own"
);

/// `public.likes` or `public.skips`, which may be the application's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnTable {
    name: &'static str,
    /// Whether the database ensures that no pair of user and video exists twice.
    pub(super) has_key: bool,
    text_users: bool,
}

impl OwnTable {
    pub(super) async fn look(
        session: &mut Session,
        kind: InteractionKind,
    ) -> Result<Self, StoreError> {
        let name = kind.table();
        let (has_key, text_users): (bool, bool) = query_as(LOOK)
            .bind(format!("public.{name}"))
            .fetch_one(&mut **session)
            .await?;
        Ok(Self {
            name,
            has_key,
            text_users,
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

    /// The FROM item with each pair once.
    pub(super) fn pairs(self) -> String {
        let name = self.name;
        if self.has_key {
            format!("public.{name}")
        } else {
            format!("(SELECT DISTINCT user_id, video_id FROM public.{name}) AS {name}")
        }
    }
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
