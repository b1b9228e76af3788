use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session, experiments};
use crate::registry::{ActivationRow, Details, Record, same_model};
use crate::{
    Activation, ActivationRecord, Lease, ModelDetails, ModelRecord, ModelState, NewModel,
    StoreError,
};
use serde_json::Value;
use sqlx::types::Json;

/// Microseconds since 1970 of a time.
macro_rules! us {
    ($time:literal) => {
        concat!("(extract(epoch FROM ", $time, ") * 1000000)::bigint")
    };
}

/// Columns of `twotower.models` in the order of [`Record`].
macro_rules! record {
    () => {
        concat!(
            "version, state, embedding_dim::bigint, ",
            us!("created_at"),
            ", ",
            us!("activated_at"),
            ", ",
            us!("cut_off"),
            ", metrics, ",
            us!("pruned_at"),
            ", erasures_seen, manifest_sha256"
        )
    };
}

impl Postgres {
    pub(crate) async fn next_model_version(&self) -> Result<i64, StoreError> {
        let mut session = self.begin().await?;
        let version = query_scalar("SELECT nextval('twotower.model_versions')")
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        Ok(version)
    }

    pub(crate) async fn register_model(
        &self,
        lease: Option<Lease>,
        model: &NewModel,
    ) -> Result<(), StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        let done = query(
            "INSERT INTO twotower.models AS old (version, state, embedding_dim, cut_off, snapshot_sha256,
                                                 hyperparameters, metrics, manifest_sha256, erasures_seen)
             VALUES ($1, 'loading', $2, timestamptz 'epoch' + $3::bigint * interval '1 microsecond', $4, $5, $6, $7, $8)
             ON CONFLICT (version) DO UPDATE SET
                 state = 'loading', embedding_dim = excluded.embedding_dim, created_at = now(),
                 cut_off = excluded.cut_off, snapshot_sha256 = excluded.snapshot_sha256,
                 hyperparameters = excluded.hyperparameters, metrics = excluded.metrics,
                 erasures_seen = excluded.erasures_seen, verdict = NULL, pruned_at = NULL
             WHERE old.state <> 'active' AND old.manifest_sha256 = excluded.manifest_sha256",
        )
        .bind(model.version)
        .bind(model.embedding_dim as i32)
        .bind(model.cut_off_us)
        .bind(&model.snapshot_sha256)
        .bind(Json(&model.hyperparameters))
        .bind(Json(&model.metrics))
        .bind(&model.manifest_sha256)
        .bind(model.erasures_seen)
        .execute(&mut *session)
        .await?;
        if done.rows_affected() == 0 {
            let registered: String =
                query_scalar("SELECT manifest_sha256 FROM twotower.models WHERE version = $1")
                    .bind(model.version)
                    .fetch_one(&mut *session)
                    .await?;
            same_model(model.version, &registered, &model.manifest_sha256)?;
            return Err(StoreError::ActiveModel(model.version));
        }
        session.commit().await
    }

    pub(crate) async fn set_model_state(
        &self,
        lease: Option<Lease>,
        version: i64,
        state: ModelState,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        if lock_state(&mut session, version).await? == ModelState::Active {
            return Err(StoreError::ActiveModel(version));
        }
        query("UPDATE twotower.models SET state = $2, reason = coalesce($3, reason) WHERE version = $1")
            .bind(version)
            .bind(state.as_str())
            .bind(reason)
            .execute(&mut *session)
            .await?;
        session.commit().await
    }

    pub(crate) async fn prune_model(
        &self,
        lease: Option<Lease>,
        version: i64,
    ) -> Result<(), StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        if lock_state(&mut session, version).await? == ModelState::Active {
            return Err(StoreError::ActiveModel(version));
        }
        query(
            "UPDATE twotower.models SET pruned_at = coalesce(pruned_at, now()),
                 retired_at = CASE WHEN state = 'candidate' THEN now() ELSE retired_at END,
                 state = CASE state WHEN 'candidate' THEN 'retired' WHEN 'loading' THEN 'failed' ELSE state END
             WHERE version = $1",
        )
        .bind(version)
        .execute(&mut *session)
        .await?;
        query("DELETE FROM twotower.user_towers WHERE version = $1")
            .bind(version)
            .execute(&mut *session)
            .await?;
        session.commit().await
    }

    pub(crate) async fn record_verdict(
        &self,
        lease: Option<Lease>,
        version: i64,
        verdict: &Value,
    ) -> Result<(), StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        lock_state(&mut session, version).await?;
        query("UPDATE twotower.models SET verdict = $2 WHERE version = $1")
            .bind(version)
            .bind(Json(verdict))
            .execute(&mut *session)
            .await?;
        session.commit().await
    }

    pub(crate) async fn verdict(&self, version: i64) -> Result<Option<Value>, StoreError> {
        let mut session = self.begin().await?;
        let verdict: Option<Option<Value>> =
            query_scalar("SELECT verdict FROM twotower.models WHERE version = $1")
                .bind(version)
                .fetch_optional(&mut *session)
                .await?;
        session.commit().await?;
        Ok(verdict.flatten())
    }

    pub(crate) async fn activate_model(
        &self,
        lease: Option<Lease>,
        activation: &Activation,
    ) -> Result<Option<i64>, StoreError> {
        let version = activation.version;
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        // One activation at a time, whatever the versions, including those without a lease.
        query("LOCK TABLE twotower.active_model IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *session)
            .await?;
        match lock_state(&mut session, version).await? {
            ModelState::Active => {
                let ended = experiments::ended_by(&mut session, version).await?;
                session.commit().await?;
                return Ok(ended);
            }
            state if activation.kind.accepts(state) => {}
            state => return Err(StoreError::NotActivatable { version, state }),
        }
        query(
            "INSERT INTO twotower.model_activations (version, kind, activated_by, reason, previous_version, forced)
             VALUES ($1, $2, $3, $4, (SELECT version FROM twotower.active_model), $5)",
        )
        .bind(version)
        .bind(activation.kind.as_str())
        .bind(&activation.by)
        .bind(&activation.reason)
        .bind(activation.forced)
        .execute(&mut *session)
        .await?;
        query("UPDATE twotower.models SET state = 'retired', retired_at = now() WHERE state = 'active'")
            .execute(&mut *session)
            .await?;
        query(
            "UPDATE twotower.models SET state = 'active', activated_at = now(), reason = $2, promoted_by = $3
             WHERE version = $1",
        )
        .bind(version)
        .bind(&activation.reason)
        .bind(&activation.by)
        .execute(&mut *session)
        .await?;
        query(
            "INSERT INTO twotower.active_model (singleton, version) VALUES (true, $1)
             ON CONFLICT (singleton) DO UPDATE SET version = excluded.version",
        )
        .bind(version)
        .execute(&mut *session)
        .await?;
        let ended = experiments::end(&mut session).await?;
        session.commit().await?;
        Ok(ended)
    }

    pub(crate) async fn activations(&self) -> Result<Vec<ActivationRecord>, StoreError> {
        let mut session = self.begin().await?;
        let history = history(&mut session).await?;
        session.commit().await?;
        Ok(history)
    }

    pub(crate) async fn model_details(&self, version: i64) -> Result<ModelDetails, StoreError> {
        let mut session = self.begin().await?;
        let record: Option<Record> = query_as(concat!(
            "SELECT ",
            record!(),
            " FROM twotower.models WHERE version = $1"
        ))
        .bind(version)
        .fetch_optional(&mut *session)
        .await?;
        let record = record.ok_or(StoreError::UnknownModel(version))?;
        let details: Details = query_as(
            "SELECT (extract(epoch FROM retired_at) * 1000000)::bigint, snapshot_sha256, hyperparameters, reason, verdict
             FROM twotower.models WHERE version = $1",
        )
        .bind(version)
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        ModelDetails::new(record, details)
    }

    pub(crate) async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        let mut session = self.begin().await?;
        let record: Option<Record> = query_as(concat!(
            "SELECT ",
            record!(),
            " FROM twotower.active_model JOIN twotower.models USING (version)"
        ))
        .fetch_optional(&mut *session)
        .await?;
        session.commit().await?;
        record.map(ModelRecord::try_from).transpose()
    }

    pub(crate) async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        let mut session = self.begin().await?;
        let records: Vec<Record> = query_as(concat!(
            "SELECT ",
            record!(),
            " FROM twotower.models ORDER BY version DESC"
        ))
        .fetch_all(&mut *session)
        .await?;
        session.commit().await?;
        records.into_iter().map(ModelRecord::try_from).collect()
    }
}

/// Every activation that the transaction sees, oldest first.
pub(super) async fn history(session: &mut Session) -> Result<Vec<ActivationRecord>, StoreError> {
    let rows: Vec<ActivationRow> = query_as(
        "SELECT version, (extract(epoch FROM activated_at) * 1000000)::bigint, kind, activated_by, reason, previous_version,
                forced
         FROM twotower.model_activations ORDER BY id",
    )
    .fetch_all(&mut **session)
    .await?;
    rows.into_iter().map(ActivationRecord::try_from).collect()
}

async fn lock_state(session: &mut Session, version: i64) -> Result<ModelState, StoreError> {
    let state: Option<String> =
        query_scalar("SELECT state FROM twotower.models WHERE version = $1 FOR UPDATE")
            .bind(version)
            .fetch_optional(&mut **session)
            .await?;
    state.ok_or(StoreError::UnknownModel(version))?.parse()
}
