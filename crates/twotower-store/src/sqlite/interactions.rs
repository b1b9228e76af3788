use super::erasure::erased_among;
use super::ids::in_time;
use super::mapped::{self, done_by};
use super::{CHUNK, Sqlite, json_numbers, now_us, packed};
use crate::{Counts, InteractionKind, InteractionRow, StoreError, UserActivity, UserHistory};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection as _, Sqlite as Database, SqliteConnection};
use uuid::Uuid;

/// Page cache of a connection that writes many rows, in KiB. With the usual 2 MB a larger table's
/// pages would be written to the log several times within one transaction.
const CACHE_KIB: u32 = 64 << 10;

/// Page cache of any other connection in KiB: SQLite's default.
const USUAL_CACHE_KIB: u32 = 2_000;

fn insert(kind: InteractionKind) -> &'static str {
    match kind {
        InteractionKind::Like => {
            "INSERT INTO likes (user_id, video_id, created_at)
             SELECT substr(?1, key * 16 + 1, 16), substr(?2, key * 16 + 1, 16), value FROM json_each(?3) WHERE true
             ON CONFLICT DO NOTHING"
        }
        InteractionKind::Skip => {
            "INSERT INTO skips (user_id, video_id, created_at)
             SELECT substr(?1, key * 16 + 1, 16), substr(?2, key * 16 + 1, 16), value FROM json_each(?3) WHERE true
             ON CONFLICT DO NOTHING"
        }
    }
}

/// A connection with a page cache for a large write. It is closed unless its cache is reset, as
/// when the write is cancelled: the pool would keep it, and its memory, for good.
struct LargeCache {
    connection: PoolConnection<Database>,
    is_usual: bool,
}

impl LargeCache {
    /// A failure is logged only, since the rows are already written.
    async fn reset(&mut self) {
        if self.is_usual {
            return;
        }
        match cache(&mut self.connection, USUAL_CACHE_KIB).await {
            Ok(()) => self.is_usual = true,
            Err(error) => tracing::warn!(
                "a connection to the database file keeps its memory for large writes, and is closed: {error}"
            ),
        }
    }
}

impl Drop for LargeCache {
    fn drop(&mut self) {
        if !self.is_usual {
            self.connection.close_on_drop();
        }
    }
}

impl Sqlite {
    pub(crate) async fn write_interactions(
        &self,
        kind: InteractionKind,
        rows: &[InteractionRow],
    ) -> Result<u64, StoreError> {
        if rows.len() <= CHUNK {
            let mut transaction = self.write().await?;
            let new = write_all(&mut transaction, kind, rows).await?;
            transaction.commit().await?;
            return Ok(new);
        }
        let mut large = LargeCache {
            connection: self.pool.acquire().await?,
            is_usual: false,
        };
        // A database in memory lives in the cache of its one connection, which must not be closed.
        if self.in_memory {
            large.is_usual = true;
        } else {
            cache(&mut large.connection, CACHE_KIB).await?;
        }
        let written = async {
            let mut transaction = large.connection.begin_with("BEGIN IMMEDIATE").await?;
            let new = write_all(&mut transaction, kind, rows).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(new)
        };
        let written = written.await;
        large.reset().await;
        written
    }

    pub(crate) async fn record(
        &self,
        kind: InteractionKind,
        user: Uuid,
        video: Uuid,
    ) -> Result<bool, StoreError> {
        if !self.erased_users(&[user]).await?.is_empty() {
            return Err(StoreError::ErasedUser);
        }
        let row = InteractionRow {
            user,
            video,
            at_us: now_us(),
        };
        let new = self.write_interactions(kind, &[row]).await?;
        Ok(new == 1)
    }

    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        let counts: (i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM videos), (SELECT count(*) FROM likes), (SELECT count(*) FROM skips),
                    (SELECT count(*) FROM (SELECT user_id FROM likes UNION SELECT user_id FROM skips))",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(counts.into())
    }

    pub(crate) async fn user_history(
        &self,
        user: Uuid,
        limit: u32,
    ) -> Result<UserHistory, StoreError> {
        let mut transaction = self.pool.begin().await?;
        if !erased_among(&mut transaction, &[user]).await?.is_empty() {
            return Err(StoreError::ErasedUser);
        }
        let mut lists = [Vec::new(), Vec::new()];
        for (list, (kind, latest)) in lists.iter_mut().zip([
            (
                InteractionKind::Like,
                concat!(
                    "SELECT video_id FROM likes WHERE user_id = ?1 AND ",
                    in_time!(),
                    " ORDER BY created_at DESC, video_id DESC LIMIT ?2"
                ),
            ),
            (
                InteractionKind::Skip,
                concat!(
                    "SELECT video_id FROM skips WHERE user_id = ?1 AND ",
                    in_time!(),
                    " ORDER BY created_at DESC, video_id DESC LIMIT ?2"
                ),
            ),
        ]) {
            if let Some(sql) = self.mapped_interactions(kind) {
                *list = done_by(&mut transaction, kind, sql, user).await?;
                list.drain(..list.len().saturating_sub(limit as usize));
                continue;
            }
            *list = sqlx::query_scalar(latest)
                .bind(user)
                .bind(limit)
                .fetch_all(&mut *transaction)
                .await?;
            list.reverse();
        }
        let [likes, skips] = lists;
        Ok(UserHistory { likes, skips })
    }

    pub(crate) async fn liked_videos(&self, user: Uuid) -> Result<Vec<Uuid>, StoreError> {
        if let Some(sql) = self.mapped_interactions(InteractionKind::Like) {
            let mut connection = self.pool.acquire().await?;
            return done_by(&mut connection, InteractionKind::Like, sql, user).await;
        }
        Ok(sqlx::query_scalar(concat!(
            "SELECT video_id FROM likes WHERE user_id = ?1 AND ",
            in_time!()
        ))
        .bind(user)
        .fetch_all(&self.pool)
        .await?)
    }

    #[expect(clippy::unused_async, reason = "called as the one for PostgreSQL is")]
    pub(crate) async fn refresh_statistics(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub(crate) async fn like_counts(&self) -> Result<Vec<(Uuid, u64)>, StoreError> {
        if let Some(sql) = self.mapped_interactions(InteractionKind::Like) {
            let mut connection = self.pool.acquire().await?;
            return mapped::like_counts(&mut connection, sql).await;
        }
        let counts: Vec<(Uuid, i64)> = sqlx::query_as(concat!(
            "SELECT video_id, count(*) FROM likes WHERE ",
            in_time!(),
            " GROUP BY video_id"
        ))
        .fetch_all(&self.pool)
        .await?;
        Ok(counts
            .into_iter()
            .map(|(id, count)| (id, count as u64))
            .collect())
    }

    pub(crate) async fn active_users(&self, limit: u32) -> Result<Vec<UserActivity>, StoreError> {
        let mut users = match self.mapped_interactions(InteractionKind::Like) {
            Some(sql) => {
                let mut connection = self.pool.acquire().await?;
                mapped::active_users(&mut connection, sql, limit).await?
            }
            None => self.most_active(limit).await?,
        };
        let ids: Vec<Uuid> = users.iter().map(|active| active.user).collect();
        let erased = self.erased_users(&ids).await?;
        users.retain(|active| !erased.contains(&active.user));
        Ok(users)
    }

    async fn most_active(&self, limit: u32) -> Result<Vec<UserActivity>, StoreError> {
        let users: Vec<(Uuid, i64)> = sqlx::query_as(concat!(
            "SELECT user_id, count(*) FROM likes WHERE ",
            in_time!(),
            " GROUP BY user_id ORDER BY count(*) DESC, user_id LIMIT ?1"
        ))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let active = |(user, likes): (Uuid, i64)| UserActivity {
            user,
            likes: likes as u64,
        };
        Ok(users.into_iter().map(active).collect())
    }
}

/// Writes rows, which are sorted by user, leaving out users who were erased. Returns the number of
/// new rows.
async fn write_all(
    connection: &mut SqliteConnection,
    kind: InteractionKind,
    rows: &[InteractionRow],
) -> Result<u64, StoreError> {
    let mut new = 0;
    for chunk in rows.chunks(CHUNK) {
        let mut users: Vec<Uuid> = chunk.iter().map(|row| row.user).collect();
        users.dedup();
        let erased = erased_among(connection, &users).await?;
        let kept: Vec<InteractionRow> = chunk
            .iter()
            .filter(|row| !erased.contains(&row.user))
            .copied()
            .collect();
        let chunk = &kept;
        match write(connection, kind, chunk).await {
            Ok(n) => new += n,
            Err(error) if error.is_foreign_key() => {
                let unknown = first_unknown(connection, chunk).await?;
                return Err(unknown.map_or(error, StoreError::UnknownVideo));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(new)
}

async fn cache(connection: &mut SqliteConnection, kib: u32) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(format!("PRAGMA cache_size = -{kib}")))
        .persistent(false)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write(
    connection: &mut SqliteConnection,
    kind: InteractionKind,
    rows: &[InteractionRow],
) -> Result<u64, StoreError> {
    let done = sqlx::query(insert(kind))
        .bind(packed(rows.iter().map(|row| row.user)))
        .bind(packed(rows.iter().map(|row| row.video)))
        .bind(json_numbers(rows.iter().map(|row| row.at_us)))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// SQLite does not say which row a foreign key refused.
async fn first_unknown(
    connection: &mut SqliteConnection,
    rows: &[InteractionRow],
) -> Result<Option<Uuid>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT substr(?1, key * 16 + 1, 16) AS video_id FROM json_each(?2)
         WHERE NOT EXISTS (SELECT 1 FROM videos WHERE id = substr(?1, key * 16 + 1, 16)) ORDER BY 1 LIMIT 1",
    )
    .bind(packed(rows.iter().map(|row| row.video)))
    .bind(json_numbers(rows.iter().map(|row| row.at_us)))
    .fetch_optional(connection)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectOptions;
    use crate::sqlite::Missing;
    use std::time::Duration;

    async fn cache_size(store: &Sqlite) -> i64 {
        let size = sqlx::query_scalar("PRAGMA cache_size");
        size.fetch_one(&store.pool).await.unwrap()
    }

    #[tokio::test]
    async fn memory_for_a_large_write_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/test.db", folder.path().display());
        let options = ConnectOptions {
            max_connections: 1,
            ..ConnectOptions::default()
        };
        let connect = || Sqlite::connect(&url, options, Missing::Create);
        let (store, other) = (connect().await.unwrap(), connect().await.unwrap());
        store.migrate().await.unwrap();
        let usual = -i64::from(USUAL_CACHE_KIB);
        assert_eq!(cache_size(&store).await, usual);
        let row = |n| InteractionRow {
            user: Uuid::from_u128(n),
            video: Uuid::from_u128(1),
            at_us: 0,
        };
        let rows: Vec<_> = (0..=CHUNK as u128).map(row).collect();
        let write = || store.write_interactions(InteractionKind::Like, &rows);
        let refused = write().await.unwrap_err();
        assert!(matches!(refused, StoreError::UnknownVideo(_)), "{refused}");
        assert_eq!(cache_size(&store).await, usual);
        // Cut off while another writes.
        let others = other.write().await.unwrap();
        let cut = tokio::time::timeout(Duration::from_millis(300), write()).await;
        assert!(cut.is_err());
        others.rollback().await.unwrap();
        assert_eq!(cache_size(&store).await, usual);
    }
}
