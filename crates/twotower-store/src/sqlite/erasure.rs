//! Erases users, and tells which users were erased.

use super::{CHUNK, Sqlite, json_numbers, now_us};
use crate::StoreError;
use crate::erasure::{ErasePlan, Erased, Tombstones, left_to_statements, user_hash};
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::collections::HashSet;
use uuid::Uuid;

impl Sqlite {
    pub(crate) async fn erase_user(
        &self,
        user: Uuid,
        plan: &ErasePlan,
    ) -> Result<Erased, StoreError> {
        let mut transaction = self.write().await?;
        let salt = salt(&mut transaction).await?;
        let hash = user_hash(&salt, user).to_vec();
        let first_time = sqlx::query(
            "INSERT INTO twotower_tombstones (user_hash, erased_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )
        .bind(&hash)
        .bind(now_us())
        .execute(&mut *transaction)
        .await?
        .rows_affected()
            == 1;
        let (erased_at_us, number): (i64, i64) = sqlx::query_as(
            "SELECT erased_at, number FROM twotower_tombstones WHERE user_hash = ?1",
        )
        .bind(&hash)
        .fetch_one(&mut *transaction)
        .await?;
        let (mut likes, mut skips) = (0, 0);
        for (is_planned, table, deleted, delete) in [
            (
                plan.likes,
                "likes",
                &mut likes,
                "DELETE FROM likes WHERE user_id = ?1",
            ),
            (
                plan.skips,
                "skips",
                &mut skips,
                "DELETE FROM skips WHERE user_id = ?1",
            ),
        ] {
            if is_planned
                && plan.leaves_rest_to_statements()
                && !is_table(&mut transaction, table).await?
            {
                left_to_statements(table);
            } else if is_planned {
                let done = sqlx::query(delete).bind(user).execute(&mut *transaction);
                *deleted = done.await?.rows_affected();
            }
        }
        for delete in [
            "DELETE FROM recommendation_blocks WHERE user_id = ?1",
            "DELETE FROM twotower_events WHERE user_id = ?1",
        ] {
            let done = sqlx::query(delete).bind(user).execute(&mut *transaction);
            done.await?;
        }
        let user_vectors = sqlx::query("DELETE FROM user_embeddings WHERE user_id = ?1")
            .bind(user)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        let mut statements = Vec::new();
        for statement in &plan.statements {
            // The operator's SQL from the configuration.
            let done = sqlx::query(AssertSqlSafe(statement.as_str()))
                .persistent(false)
                .bind(user)
                .execute(&mut *transaction)
                .await
                .map_err(|error| StoreError::from(error).of_erase(statements.len() + 1, true))?;
            statements.push(done.rows_affected());
        }
        transaction.commit().await?;
        self.rewrite().await?;
        Ok(Erased {
            erased_at_us,
            number,
            first_time,
            likes,
            skips,
            user_vectors,
            statements,
        })
    }

    /// Rewrites the file. Deleted rows stay in its free space and in the log until something
    /// overwrites them.
    pub(super) async fn rewrite(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        sqlx::raw_sql("VACUUM").execute(&mut *connection).await?;
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut *connection)
            .await?;
        if busy != 0 {
            tracing::warn!(
                "somebody reads the database, so that its log still holds what was deleted: it goes with the last connection"
            );
        }
        Ok(())
    }

    pub(crate) async fn erased_users(&self, users: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let erased = erased_among(&mut transaction, users).await?;
        let mut erased: Vec<Uuid> = erased.into_iter().collect();
        erased.sort_unstable();
        Ok(erased)
    }

    pub(crate) async fn erasures_unseen(&self) -> Result<Vec<(i64, i64)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT version, min(erased_at) FROM twotower_models JOIN twotower_tombstones
             ON CASE WHEN erasures_seen IS NULL THEN erased_at > created_at ELSE number > erasures_seen END
             WHERE state <> 'failed' AND pruned_at IS NULL GROUP BY version ORDER BY version",
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// Whether there is a table of this name, and not a view.
pub(super) async fn is_table(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)",
    )
    .bind(name)
    .fetch_one(connection)
    .await?)
}

/// Whether anybody was erased.
pub(super) async fn any_tombstone(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM twotower_tombstones)")
            .fetch_one(connection)
            .await?,
    )
}

/// Those of `users` who were erased.
pub(super) async fn erased_among(
    connection: &mut SqliteConnection,
    users: &[Uuid],
) -> Result<HashSet<Uuid>, StoreError> {
    let mut erased = HashSet::new();
    if !any_tombstone(connection).await? {
        return Ok(erased);
    }
    let salt = salt(connection).await?;
    for chunk in users.chunks(CHUNK) {
        let hashes: Vec<u8> = chunk
            .iter()
            .flat_map(|&user| user_hash(&salt, user))
            .collect();
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT value FROM json_each(?2)
             WHERE substr(?1, value * 32 + 1, 32) IN (SELECT user_hash FROM twotower_tombstones)",
        )
        .bind(hashes)
        .bind(json_numbers(0..chunk.len() as i64))
        .fetch_all(&mut *connection)
        .await?;
        erased.extend(found.into_iter().map(|n| chunk[n as usize]));
    }
    Ok(erased)
}

/// All tombstones in the snapshot of the transaction.
pub(super) async fn tombstones(
    connection: &mut SqliteConnection,
) -> Result<Tombstones, StoreError> {
    let rows: Vec<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT user_hash, number FROM twotower_tombstones")
            .fetch_all(&mut *connection)
            .await?;
    if rows.is_empty() {
        return Ok(Tombstones::default());
    }
    Ok(Tombstones::new(salt(connection).await?, rows))
}

async fn salt(connection: &mut SqliteConnection) -> Result<Vec<u8>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT salt FROM twotower_tombstone_salt")
            .fetch_one(connection)
            .await?,
    )
}
