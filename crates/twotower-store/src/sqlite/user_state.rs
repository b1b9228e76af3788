use super::erasure::erased_among;
use super::ids::in_time;
use super::mapped::done_by;
use super::{Sqlite, now_us};
use crate::user::{Block, BlockKind, UserState};
use crate::{InteractionKind, StoreError};
use sqlx::SqliteConnection;
use uuid::Uuid;

impl Sqlite {
    pub(crate) async fn user_states(
        &self,
        users: &[Uuid],
        skip_limit: u32,
    ) -> Result<Vec<Option<UserState>>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let erased = erased_among(&mut transaction, users).await?;
        let mut states = Vec::with_capacity(users.len());
        for user in users {
            states.push(if erased.contains(user) {
                None
            } else {
                Some(self.state(&mut transaction, *user, skip_limit).await?)
            });
        }
        Ok(states)
    }

    pub(crate) async fn add_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        refuse_erased(&mut transaction, user).await?;
        let done = sqlx::query(
            "INSERT INTO recommendation_blocks (user_id, kind, value, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .bind(user)
        .bind(block.kind.as_str())
        .bind(&block.value)
        .bind(now_us())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn remove_block(&self, user: Uuid, block: &Block) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "DELETE FROM recommendation_blocks WHERE user_id = ?1 AND kind = ?2 AND value = ?3",
        )
        .bind(user)
        .bind(block.kind.as_str())
        .bind(&block.value)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Sqlite {
    async fn state(
        &self,
        connection: &mut SqliteConnection,
        user: Uuid,
        skip_limit: u32,
    ) -> Result<UserState, StoreError> {
        let likes = match self.mapped_interactions(InteractionKind::Like) {
            Some(sql) => done_by(connection, InteractionKind::Like, sql, user).await?,
            None => likes(connection, user).await?,
        };
        let skips = match self.mapped_interactions(InteractionKind::Skip) {
            Some(sql) => {
                let mut all = done_by(connection, InteractionKind::Skip, sql, user).await?;
                all.drain(..all.len().saturating_sub(skip_limit as usize));
                all
            }
            None => skips(connection, user, skip_limit).await?,
        };
        Ok(UserState {
            likes,
            skips,
            blocks: blocks(connection, user).await?,
        })
    }
}

async fn likes(connection: &mut SqliteConnection, user: Uuid) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar(concat!(
        "SELECT video_id FROM likes WHERE user_id = ?1 AND ",
        in_time!(),
        " ORDER BY created_at, video_id"
    ))
    .bind(user)
    .fetch_all(connection)
    .await?)
}

async fn skips(
    connection: &mut SqliteConnection,
    user: Uuid,
    limit: u32,
) -> Result<Vec<Uuid>, StoreError> {
    let mut skips: Vec<Uuid> = sqlx::query_scalar(concat!(
        "SELECT video_id FROM skips WHERE user_id = ?1 AND ",
        in_time!(),
        " ORDER BY created_at DESC, video_id DESC LIMIT ?2"
    ))
    .bind(user)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    skips.reverse();
    Ok(skips)
}

async fn blocks(connection: &mut SqliteConnection, user: Uuid) -> Result<Vec<Block>, StoreError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT kind, value FROM recommendation_blocks WHERE user_id = ?1 ORDER BY kind, value",
    )
    .bind(user)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(kind, value)| {
            let kind = BlockKind::parse(&kind)?;
            Ok(Block { kind, value })
        })
        .collect()
}

async fn refuse_erased(connection: &mut SqliteConnection, user: Uuid) -> Result<(), StoreError> {
    if erased_among(connection, &[user]).await?.is_empty() {
        Ok(())
    } else {
        Err(StoreError::ErasedUser)
    }
}
