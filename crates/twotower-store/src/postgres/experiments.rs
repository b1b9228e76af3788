use super::mapped::MappedQuery;
use super::session::{query_as, query_scalar};
use super::{Postgres, Session};
use crate::experiment::{
    Arm, ArmTotals, ArmTotalsRow, Experiment, ExperimentRecord, ExperimentRow, ExperimentUser,
    ExperimentUserRow, NewExperiment, RunningRow,
};
use crate::store::BULK_TIMEOUT;
use crate::{Lease, StoreError};
use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;

/// `id`, `maker` and publication time of our own videos, which record when a video arrived. An
/// application's own table in their place may lack that column; the name then refers to the
/// constant outside the subquery.
const OWN_VIDEOS: &str = "
    SELECT facts.* FROM (SELECT NULL::timestamptz AS created_at) AS absent CROSS JOIN LATERAL (
        SELECT id, maker, coalesce(
            CASE WHEN isfinite(published_at) THEN extract(epoch FROM published_at) END,
            CASE WHEN isfinite(created_at) THEN extract(epoch FROM created_at) END
        ) AS published FROM public.videos
    ) AS facts";

/// The same from the query of `[source]`. A query may return a video twice, which does not count as
/// a second impression.
fn mapped_videos(query: &MappedQuery) -> String {
    format!(
        "SELECT source.id::uuid AS id, min(source.maker::text) AS maker,
                min(CASE WHEN isfinite(source.published_at::timestamptz)
                         THEN extract(epoch FROM source.published_at::timestamptz) END) AS published
         FROM {} WHERE source.id IS NOT NULL GROUP BY 1",
        query.rows()
    )
}

/// One row per user, with the counts of [`ExperimentUser`].
fn users(videos: &str) -> String {
    format!(
        "
    SELECT sum(shown)::bigint, sum(clicked)::bigint, sum(liked)::bigint,
           sum(views)::bigint, sum(watched), sum(measured)::bigint,
           coalesce(sum(shown) FILTER (WHERE maker IS NOT NULL), 0)::bigint,
           coalesce(sum(shown * (shown - 1) / 2) FILTER (WHERE maker IS NOT NULL), 0)::bigint,
           sum(dated)::bigint, sum(age)
    FROM (
        SELECT user_id, maker, count(*) FILTER (WHERE shown) AS shown,
               count(*) FILTER (WHERE shown AND clicked) AS clicked, count(*) FILTER (WHERE shown AND liked) AS liked,
               sum(views) AS views, coalesce(sum(watched) FILTER (WHERE shown), 0) AS watched,
               coalesce(sum(measured) FILTER (WHERE shown), 0) AS measured,
               count(age) FILTER (WHERE shown) AS dated, coalesce(sum(age) FILTER (WHERE shown), 0)::double precision AS age
        FROM (
            SELECT pairs.*, facts.maker, (extract(epoch FROM shown_at) - facts.published) / 86400 AS age
            FROM (
                SELECT user_id, video_id,
                       bool_or(kind = 'impression') AS shown,
                       bool_or(kind = 'like' OR watch_fraction > 0) AS clicked,
                       bool_or(kind = 'like') AS liked,
                       count(*) FILTER (WHERE kind = 'view') AS views,
                       coalesce(sum(watch_fraction::double precision), 0) AS watched,
                       count(watch_fraction) AS measured,
                       min(at) FILTER (WHERE kind = 'impression') AS shown_at
                FROM twotower.events WHERE experiment_id = $1 AND arm = $2 GROUP BY user_id, video_id
            ) AS pairs
            LEFT JOIN (\n{videos}\n) AS facts ON facts.id = pairs.video_id
        ) AS joined GROUP BY user_id, maker
    ) AS of_makers GROUP BY user_id"
    )
}

impl Postgres {
    pub(crate) async fn running_experiment(&self) -> Result<Option<Experiment>, StoreError> {
        let mut session = self.begin().await?;
        let experiment = running(&mut session).await?;
        session.commit().await?;
        Ok(experiment)
    }

    pub(crate) async fn start_experiment(
        &self,
        lease: Option<Lease>,
        new: &NewExperiment,
    ) -> Result<i64, StoreError> {
        let mut session = self.begin_publishing(lease, self.statement_timeout).await?;
        let id = query_scalar(
            "INSERT INTO twotower.experiments (control_version, challenger_version, share, started_by, reason)
             VALUES ($1, $2, $3, $4, $5) RETURNING id",
        )
        .bind(new.control)
        .bind(new.challenger)
        .bind(new.share)
        .bind(&new.by)
        .bind(&new.reason)
        .fetch_one(&mut *session)
        .await
        .map_err(StoreError::from)
        .map_err(StoreError::second_experiment)?;
        session.commit().await?;
        Ok(id)
    }

    pub(crate) async fn stop_experiment(&self) -> Result<Option<i64>, StoreError> {
        let mut session = self.begin().await?;
        let id = end(&mut session).await?;
        session.commit().await?;
        Ok(id)
    }

    pub(crate) async fn experiments(&self) -> Result<Vec<ExperimentRecord>, StoreError> {
        let mut session = self.begin().await?;
        let rows: Vec<ExperimentRow> = query_as(
            "SELECT id, control_version, challenger_version, share, (extract(epoch FROM started_at) * 1000000)::bigint,
                    (extract(epoch FROM ended_at) * 1000000)::bigint, started_by, reason
             FROM twotower.experiments ORDER BY id DESC",
        )
        .fetch_all(&mut *session)
        .await?;
        session.commit().await?;
        Ok(rows.into_iter().map(ExperimentRecord::from).collect())
    }

    pub(crate) async fn for_each_experiment_user(
        &self,
        id: i64,
        arm: Arm,
        each: &mut (dyn FnMut(ExperimentUser) + Send),
    ) -> Result<ArmTotals, StoreError> {
        let (videos, catalogue) = match self.mapped_videos() {
            Some(query) => (
                mapped_videos(query),
                format!(
                    "SELECT count(DISTINCT source.id::uuid) FROM {}",
                    query.rows()
                ),
            ),
            None => (
                OWN_VIDEOS.to_owned(),
                "SELECT count(*) FROM public.videos".to_owned(),
            ),
        };
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        // Contains the operator's own SQL, from the configuration, or ours.
        let mut rows = sqlx::query_as::<_, ExperimentUserRow>(AssertSqlSafe(users(&videos)))
            .persistent(false)
            .bind(id)
            .bind(arm.as_str())
            .fetch(&mut *session);
        while let Some(row) = rows.try_next().await? {
            each(row.into());
        }
        drop(rows);
        let totals = format!(
            "SELECT count(DISTINCT video_id), count(model_version),
                    count(*) FILTER (WHERE model_version <> (
                        SELECT CASE $2 WHEN 'control' THEN control_version ELSE challenger_version END
                        FROM twotower.experiments WHERE id = $1
                    )),
                    ({catalogue})
             FROM twotower.events WHERE experiment_id = $1 AND arm = $2 AND kind = 'impression'"
        );
        let totals: ArmTotalsRow = sqlx::query_as(AssertSqlSafe(totals))
            .persistent(false)
            .bind(id)
            .bind(arm.as_str())
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        Ok(totals.into())
    }
}

/// Ends the running experiment, if any, and returns its number.
pub(super) async fn end(session: &mut Session) -> Result<Option<i64>, StoreError> {
    let id = query_scalar(
        "UPDATE twotower.experiments SET ended_at = now() WHERE ended_at IS NULL RETURNING id",
    )
    .fetch_optional(&mut **session)
    .await?;
    Ok(id)
}

/// The experiment that ended when `version` was last activated: both have the time of that
/// transaction.
pub(super) async fn ended_by(
    session: &mut Session,
    version: i64,
) -> Result<Option<i64>, StoreError> {
    let id = query_scalar(
        "SELECT id FROM twotower.experiments
         WHERE ended_at = (SELECT activated_at FROM twotower.models WHERE version = $1)",
    )
    .bind(version)
    .fetch_optional(&mut **session)
    .await?;
    Ok(id)
}

/// The running experiment, as the transaction sees it.
pub(super) async fn running(session: &mut Session) -> Result<Option<Experiment>, StoreError> {
    let row: Option<RunningRow> = query_as(
        "SELECT id, control_version, challenger_version, share, salt FROM twotower.experiments WHERE ended_at IS NULL",
    )
    .fetch_optional(&mut **session)
    .await?;
    row.map(Experiment::from_row).transpose()
}

/// The running experiment, and those that ended at or after the given time, microseconds since
/// 1970.
pub(super) async fn since(
    session: &mut Session,
    at_us: Option<i64>,
) -> Result<Vec<Experiment>, StoreError> {
    let rows: Vec<RunningRow> = query_as(
        "SELECT id, control_version, challenger_version, share, salt FROM twotower.experiments
         WHERE ended_at IS NULL OR ended_at > timestamptz 'epoch' + $1 * interval '1 microsecond'",
    )
    .bind(at_us)
    .fetch_all(&mut **session)
    .await?;
    rows.into_iter().map(Experiment::from_row).collect()
}
