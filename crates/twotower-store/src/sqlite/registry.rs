use super::{Sqlite, now_us};
use crate::registry::Record;
use crate::{ModelRecord, ModelState, NewModel, StoreError};
use sqlx::SqliteConnection;
use sqlx::types::Json;

impl Sqlite {
    pub(crate) async fn next_model_version(&self) -> Result<i64, StoreError> {
        Ok(
            sqlx::query_scalar("UPDATE twotower_model_versions SET last = last + 1 RETURNING last")
                .fetch_one(&self.pool)
                .await?,
        )
    }

    pub(crate) async fn register_model(&self, model: &NewModel) -> Result<(), StoreError> {
        let done = sqlx::query(
            "INSERT INTO twotower_models (version, state, embedding_dim, created_at, cut_off, snapshot_sha256,
                                          hyperparameters, metrics, manifest_sha256)
             VALUES (?1, 'loading', ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (version) DO UPDATE SET
                 state = 'loading', embedding_dim = excluded.embedding_dim, created_at = excluded.created_at,
                 cut_off = excluded.cut_off, snapshot_sha256 = excluded.snapshot_sha256,
                 hyperparameters = excluded.hyperparameters, metrics = excluded.metrics,
                 manifest_sha256 = excluded.manifest_sha256
             WHERE state <> 'active'",
        )
        .bind(model.version)
        .bind(model.embedding_dim as i64)
        .bind(now_us())
        .bind(model.cut_off_us)
        .bind(&model.snapshot_sha256)
        .bind(Json(&model.hyperparameters))
        .bind(Json(&model.metrics))
        .bind(&model.manifest_sha256)
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::ActiveModel(model.version));
        }
        Ok(())
    }

    pub(crate) async fn set_model_state(
        &self,
        version: i64,
        state: ModelState,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        if self::state(&mut transaction, version).await? == ModelState::Active {
            return Err(StoreError::ActiveModel(version));
        }
        sqlx::query("UPDATE twotower_models SET state = ?2 WHERE version = ?1")
            .bind(version)
            .bind(state.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn activate_model(
        &self,
        version: i64,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        match state(&mut transaction, version).await? {
            ModelState::Active => return Ok(()),
            ModelState::Candidate | ModelState::Retired => {}
            state @ (ModelState::Loading | ModelState::Failed) => {
                return Err(StoreError::NotActivatable { version, state });
            }
        }
        let now = now_us();
        sqlx::query(
            "UPDATE twotower_models SET state = 'retired', retired_at = ?1 WHERE state = 'active'",
        )
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE twotower_models SET state = 'active', activated_at = ?2, reason = ?3 WHERE version = ?1")
            .bind(version)
            .bind(now)
            .bind(reason)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO twotower_active_model (singleton, version) VALUES (1, ?1)
             ON CONFLICT (singleton) DO UPDATE SET version = excluded.version",
        )
        .bind(version)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        let record: Option<Record> = sqlx::query_as(
            "SELECT version, state, embedding_dim, created_at, activated_at, cut_off, metrics
             FROM twotower_active_model JOIN twotower_models USING (version)",
        )
        .fetch_optional(&self.pool)
        .await?;
        record.map(ModelRecord::try_from).transpose()
    }

    pub(crate) async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        let records: Vec<Record> = sqlx::query_as(
            "SELECT version, state, embedding_dim, created_at, activated_at, cut_off, metrics
             FROM twotower_models ORDER BY version DESC",
        )
        .fetch_all(&self.pool)
        .await?;
        records.into_iter().map(ModelRecord::try_from).collect()
    }
}

async fn state(connection: &mut SqliteConnection, version: i64) -> Result<ModelState, StoreError> {
    let state: Option<String> =
        sqlx::query_scalar("SELECT state FROM twotower_models WHERE version = ?1")
            .bind(version)
            .fetch_optional(connection)
            .await?;
    state.ok_or(StoreError::UnknownModel(version))?.parse()
}
