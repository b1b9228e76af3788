use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session};
use crate::registry::Record;
use crate::{ModelRecord, ModelState, NewModel, StoreError};
use sqlx::types::Json;

impl Postgres {
    pub(crate) async fn next_model_version(&self) -> Result<i64, StoreError> {
        let mut session = self.begin().await?;
        let version = query_scalar("SELECT nextval('twotower.model_versions')")
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        Ok(version)
    }

    pub(crate) async fn register_model(&self, model: &NewModel) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        let done = query(
            "INSERT INTO twotower.models AS old (version, state, embedding_dim, cut_off, snapshot_sha256,
                                                 hyperparameters, metrics, manifest_sha256)
             VALUES ($1, 'loading', $2, timestamptz 'epoch' + $3::bigint * interval '1 microsecond', $4, $5, $6, $7)
             ON CONFLICT (version) DO UPDATE SET
                 state = 'loading', embedding_dim = excluded.embedding_dim, created_at = now(),
                 cut_off = excluded.cut_off, snapshot_sha256 = excluded.snapshot_sha256,
                 hyperparameters = excluded.hyperparameters, metrics = excluded.metrics,
                 manifest_sha256 = excluded.manifest_sha256
             WHERE old.state <> 'active'",
        )
        .bind(model.version)
        .bind(model.embedding_dim as i32)
        .bind(model.cut_off_us)
        .bind(&model.snapshot_sha256)
        .bind(Json(&model.hyperparameters))
        .bind(Json(&model.metrics))
        .bind(&model.manifest_sha256)
        .execute(&mut *session)
        .await?;
        session.commit().await?;
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
        let mut session = self.begin().await?;
        if lock_state(&mut session, version).await? == ModelState::Active {
            return Err(StoreError::ActiveModel(version));
        }
        query("UPDATE twotower.models SET state = $2 WHERE version = $1")
            .bind(version)
            .bind(state.as_str())
            .execute(&mut *session)
            .await?;
        session.commit().await
    }

    pub(crate) async fn activate_model(
        &self,
        version: i64,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        // One publisher at a time, whichever versions they have in mind.
        query("LOCK TABLE twotower.active_model IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *session)
            .await?;
        match lock_state(&mut session, version).await? {
            ModelState::Active => return session.commit().await,
            ModelState::Candidate | ModelState::Retired => {}
            state @ (ModelState::Loading | ModelState::Failed) => {
                return Err(StoreError::NotActivatable { version, state });
            }
        }
        query("UPDATE twotower.models SET state = 'retired', retired_at = now() WHERE state = 'active'")
            .execute(&mut *session)
            .await?;
        query(
            "UPDATE twotower.models SET state = 'active', activated_at = now(), reason = $2, promoted_by = session_user
             WHERE version = $1",
        )
        .bind(version)
        .bind(reason)
        .execute(&mut *session)
        .await?;
        query(
            "INSERT INTO twotower.active_model (singleton, version) VALUES (true, $1)
             ON CONFLICT (singleton) DO UPDATE SET version = excluded.version",
        )
        .bind(version)
        .execute(&mut *session)
        .await?;
        session.commit().await
    }

    pub(crate) async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        let mut session = self.begin().await?;
        let record: Option<Record> = query_as(
            "SELECT version, state, embedding_dim::bigint, (extract(epoch FROM created_at) * 1000000)::bigint,
                    (extract(epoch FROM activated_at) * 1000000)::bigint, (extract(epoch FROM cut_off) * 1000000)::bigint, metrics
             FROM twotower.active_model JOIN twotower.models USING (version)",
        )
        .fetch_optional(&mut *session)
        .await?;
        session.commit().await?;
        record.map(ModelRecord::try_from).transpose()
    }

    pub(crate) async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        let mut session = self.begin().await?;
        let records: Vec<Record> = query_as(
            "SELECT version, state, embedding_dim::bigint, (extract(epoch FROM created_at) * 1000000)::bigint,
                    (extract(epoch FROM activated_at) * 1000000)::bigint, (extract(epoch FROM cut_off) * 1000000)::bigint, metrics
             FROM twotower.models ORDER BY version DESC",
        )
        .fetch_all(&mut *session)
        .await?;
        session.commit().await?;
        records.into_iter().map(ModelRecord::try_from).collect()
    }
}

async fn lock_state(session: &mut Session, version: i64) -> Result<ModelState, StoreError> {
    let state: Option<String> =
        query_scalar("SELECT state FROM twotower.models WHERE version = $1 FOR UPDATE")
            .bind(version)
            .fetch_optional(&mut **session)
            .await?;
    state.ok_or(StoreError::UnknownModel(version))?.parse()
}
