use super::{Sqlite, experiments, now_us};
use crate::registry::{ActivationRow, Details, Record, same_model};
use crate::{
    Activation, ActivationRecord, Lease, ModelDetails, ModelRecord, ModelState, NewModel,
    StoreError,
};
use serde_json::Value;
use sqlx::SqliteConnection;
use sqlx::types::Json;

/// Columns of `twotower_models` in the order of [`Record`].
macro_rules! record {
    () => {
        "version, state, embedding_dim, created_at, activated_at, cut_off, metrics, pruned_at, erasures_seen, manifest_sha256"
    };
}

impl Sqlite {
    pub(crate) async fn next_model_version(&self) -> Result<i64, StoreError> {
        Ok(
            sqlx::query_scalar("UPDATE twotower_model_versions SET last = last + 1 RETURNING last")
                .fetch_one(&self.pool)
                .await?,
        )
    }

    pub(crate) async fn register_model(
        &self,
        lease: Option<Lease>,
        model: &NewModel,
    ) -> Result<(), StoreError> {
        let mut transaction = self.publish(lease).await?;
        let done = sqlx::query(
            "INSERT INTO twotower_models (version, state, embedding_dim, created_at, cut_off, snapshot_sha256,
                                          hyperparameters, metrics, manifest_sha256, erasures_seen)
             VALUES (?1, 'loading', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (version) DO UPDATE SET
                 state = 'loading', embedding_dim = excluded.embedding_dim, created_at = excluded.created_at,
                 cut_off = excluded.cut_off, snapshot_sha256 = excluded.snapshot_sha256,
                 hyperparameters = excluded.hyperparameters, metrics = excluded.metrics,
                 erasures_seen = excluded.erasures_seen, verdict = NULL, pruned_at = NULL
             WHERE state <> 'active' AND manifest_sha256 = excluded.manifest_sha256",
        )
        .bind(model.version)
        .bind(model.embedding_dim as i64)
        .bind(now_us())
        .bind(model.cut_off_us)
        .bind(&model.snapshot_sha256)
        .bind(Json(&model.hyperparameters))
        .bind(Json(&model.metrics))
        .bind(&model.manifest_sha256)
        .bind(model.erasures_seen)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            let registered: String = sqlx::query_scalar(
                "SELECT manifest_sha256 FROM twotower_models WHERE version = ?1",
            )
            .bind(model.version)
            .fetch_one(&mut *transaction)
            .await?;
            same_model(model.version, &registered, &model.manifest_sha256)?;
            return Err(StoreError::ActiveModel(model.version));
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn set_model_state(
        &self,
        lease: Option<Lease>,
        version: i64,
        state: ModelState,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.publish(lease).await?;
        if self::state(&mut transaction, version).await? == ModelState::Active {
            return Err(StoreError::ActiveModel(version));
        }
        sqlx::query(
            "UPDATE twotower_models SET state = ?2, reason = coalesce(?3, reason) WHERE version = ?1",
        )
        .bind(version)
        .bind(state.as_str())
        .bind(reason)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn prune_model(
        &self,
        lease: Option<Lease>,
        version: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.publish(lease).await?;
        if state(&mut transaction, version).await? == ModelState::Active {
            return Err(StoreError::ActiveModel(version));
        }
        sqlx::query(
            "UPDATE twotower_models SET pruned_at = coalesce(pruned_at, ?2),
                 retired_at = CASE WHEN state = 'candidate' THEN ?2 ELSE retired_at END,
                 state = CASE state WHEN 'candidate' THEN 'retired' WHEN 'loading' THEN 'failed' ELSE state END
             WHERE version = ?1",
        )
        .bind(version)
        .bind(now_us())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn record_verdict(
        &self,
        lease: Option<Lease>,
        version: i64,
        verdict: &Value,
    ) -> Result<(), StoreError> {
        let mut transaction = self.publish(lease).await?;
        state(&mut transaction, version).await?;
        sqlx::query("UPDATE twotower_models SET verdict = ?2 WHERE version = ?1")
            .bind(version)
            .bind(Json(verdict))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn verdict(&self, version: i64) -> Result<Option<Value>, StoreError> {
        let verdict: Option<Option<Value>> =
            sqlx::query_scalar("SELECT verdict FROM twotower_models WHERE version = ?1")
                .bind(version)
                .fetch_optional(&self.pool)
                .await?;
        Ok(verdict.flatten())
    }

    pub(crate) async fn activate_model(
        &self,
        lease: Option<Lease>,
        activation: &Activation,
    ) -> Result<Option<i64>, StoreError> {
        let version = activation.version;
        let mut transaction = self.publish(lease).await?;
        match state(&mut transaction, version).await? {
            ModelState::Active => return experiments::ended_by(&mut transaction, version).await,
            state if activation.kind.accepts(state) => {}
            state => return Err(StoreError::NotActivatable { version, state }),
        }
        let now = now_us();
        sqlx::query(
            "INSERT INTO twotower_model_activations (version, activated_at, kind, activated_by, reason, previous_version, forced)
             VALUES (?1, ?2, ?3, ?4, ?5, (SELECT version FROM twotower_active_model), ?6)",
        )
        .bind(version)
        .bind(now)
        .bind(activation.kind.as_str())
        .bind(&activation.by)
        .bind(&activation.reason)
        .bind(activation.forced)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE twotower_models SET state = 'retired', retired_at = ?1 WHERE state = 'active'",
        )
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE twotower_models SET state = 'active', activated_at = ?2, reason = ?3 WHERE version = ?1")
            .bind(version)
            .bind(now)
            .bind(&activation.reason)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO twotower_active_model (singleton, version) VALUES (1, ?1)
             ON CONFLICT (singleton) DO UPDATE SET version = excluded.version",
        )
        .bind(version)
        .execute(&mut *transaction)
        .await?;
        let ended = experiments::end(&mut transaction, now).await?;
        transaction.commit().await?;
        Ok(ended)
    }

    pub(crate) async fn activations(&self) -> Result<Vec<ActivationRecord>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        history(&mut connection).await
    }

    pub(crate) async fn model_details(&self, version: i64) -> Result<ModelDetails, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let record: Option<Record> = sqlx::query_as(concat!(
            "SELECT ",
            record!(),
            " FROM twotower_models WHERE version = ?1"
        ))
        .bind(version)
        .fetch_optional(&mut *transaction)
        .await?;
        let record = record.ok_or(StoreError::UnknownModel(version))?;
        let details: Details = sqlx::query_as(
            "SELECT retired_at, snapshot_sha256, hyperparameters, reason, verdict
             FROM twotower_models WHERE version = ?1",
        )
        .bind(version)
        .fetch_one(&mut *transaction)
        .await?;
        ModelDetails::new(record, details)
    }

    pub(crate) async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        let record: Option<Record> = sqlx::query_as(concat!(
            "SELECT ",
            record!(),
            " FROM twotower_active_model JOIN twotower_models USING (version)"
        ))
        .fetch_optional(&self.pool)
        .await?;
        record.map(ModelRecord::try_from).transpose()
    }

    pub(crate) async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        let records: Vec<Record> = sqlx::query_as(concat!(
            "SELECT ",
            record!(),
            " FROM twotower_models ORDER BY version DESC"
        ))
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

/// Every activation that the transaction sees, oldest first.
pub(super) async fn history(
    connection: &mut SqliteConnection,
) -> Result<Vec<ActivationRecord>, StoreError> {
    let rows: Vec<ActivationRow> = sqlx::query_as(
        "SELECT version, activated_at, kind, activated_by, reason, previous_version, forced
         FROM twotower_model_activations ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(ActivationRecord::try_from).collect()
}
