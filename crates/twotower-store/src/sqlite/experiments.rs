use super::{Sqlite, mapped, now_us};
use crate::experiment::{
    Arm, ArmTotals, ArmTotalsRow, Experiment, ExperimentRecord, ExperimentRow, ExperimentUser,
    ExperimentUserRow, NewExperiment, RunningRow,
};
use crate::{Lease, StoreError};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, SqliteConnection};

/// `id`, `maker` and publication time of our own videos, which record when a video arrived.
const OWN_VIDEOS: &str =
    "SELECT id, maker, coalesce(published_at, created_at) AS published FROM videos";

/// One row per user, with the counts of [`ExperimentUser`].
fn users(videos: &str) -> String {
    format!("
    SELECT sum(shown), sum(clicked), sum(liked), sum(views), total(watched), sum(measured),
           coalesce(sum(shown) FILTER (WHERE maker IS NOT NULL), 0),
           coalesce(sum(shown * (shown - 1) / 2) FILTER (WHERE maker IS NOT NULL), 0),
           sum(dated), total(age)
    FROM (
        SELECT user_id, maker, count(*) FILTER (WHERE shown) AS shown,
               count(*) FILTER (WHERE shown AND clicked) AS clicked, count(*) FILTER (WHERE shown AND liked) AS liked,
               sum(views) AS views, total(watched) FILTER (WHERE shown) AS watched,
               coalesce(sum(measured) FILTER (WHERE shown), 0) AS measured,
               count(age) FILTER (WHERE shown) AS dated, total(age) FILTER (WHERE shown) AS age
        FROM (
            SELECT pairs.*, maker, (shown_at - published) / 86400000000.0 AS age
            FROM (
                SELECT user_id, video_id,
                       max(kind = 'impression') AS shown,
                       max(kind = 'like' OR coalesce(watch_fraction, 0) > 0) AS clicked,
                       max(kind = 'like') AS liked,
                       count(*) FILTER (WHERE kind = 'view') AS views,
                       total(watch_fraction) AS watched,
                       count(watch_fraction) AS measured,
                       min(at) FILTER (WHERE kind = 'impression') AS shown_at
                FROM twotower_events WHERE experiment_id = ?1 AND arm = ?2 GROUP BY user_id, video_id
            ) AS pairs
            LEFT JOIN (\n{videos}\n) ON id = video_id
        ) GROUP BY user_id, maker
    ) GROUP BY user_id"
    )
}

impl Sqlite {
    pub(crate) async fn running_experiment(&self) -> Result<Option<Experiment>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        running(&mut connection).await
    }

    pub(crate) async fn start_experiment(
        &self,
        lease: Option<Lease>,
        new: &NewExperiment,
    ) -> Result<i64, StoreError> {
        let mut transaction = self.publish(lease).await?;
        let id = sqlx::query_scalar(
            "INSERT INTO twotower_experiments (control_version, challenger_version, share, started_at, started_by, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
        )
        .bind(new.control)
        .bind(new.challenger)
        .bind(new.share)
        .bind(now_us())
        .bind(&new.by)
        .bind(&new.reason)
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::from)
        .map_err(StoreError::second_experiment)?;
        transaction.commit().await?;
        Ok(id)
    }

    pub(crate) async fn stop_experiment(&self) -> Result<Option<i64>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        end(&mut connection, now_us()).await
    }

    pub(crate) async fn experiments(&self) -> Result<Vec<ExperimentRecord>, StoreError> {
        let rows: Vec<ExperimentRow> = sqlx::query_as(
            "SELECT id, control_version, challenger_version, share, started_at, ended_at, started_by, reason
             FROM twotower_experiments ORDER BY id DESC",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(ExperimentRecord::from).collect())
    }

    pub(crate) async fn for_each_experiment_user(
        &self,
        id: i64,
        arm: Arm,
        each: &mut (dyn FnMut(ExperimentUser) + Send),
    ) -> Result<ArmTotals, StoreError> {
        let videos = match self.mapped_videos() {
            Some(query) => mapped::each_once(query),
            None => OWN_VIDEOS.to_owned(),
        };
        let mut transaction = self.pool.begin().await?;
        // Contains the operator's own SQL, from the configuration, or ours.
        let mut rows = sqlx::query_as::<_, ExperimentUserRow>(AssertSqlSafe(users(&videos)))
            .persistent(false)
            .bind(id)
            .bind(arm.as_str())
            .fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            each(row.into());
        }
        drop(rows);
        let totals = format!(
            "SELECT count(DISTINCT video_id), count(model_version),
                    count(*) FILTER (WHERE model_version <> (
                        SELECT CASE ?2 WHEN 'control' THEN control_version ELSE challenger_version END
                        FROM twotower_experiments WHERE id = ?1
                    )),
                    (SELECT count(id) FROM (\n{videos}\n))
             FROM twotower_events WHERE experiment_id = ?1 AND arm = ?2 AND kind = 'impression'"
        );
        let totals: ArmTotalsRow = sqlx::query_as(AssertSqlSafe(totals))
            .persistent(false)
            .bind(id)
            .bind(arm.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        Ok(totals.into())
    }
}

/// Ends the running experiment, if any, and returns its number.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    now_us: i64,
) -> Result<Option<i64>, StoreError> {
    let id = sqlx::query_scalar(
        "UPDATE twotower_experiments SET ended_at = ?1 WHERE ended_at IS NULL RETURNING id",
    )
    .bind(now_us)
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// The experiment that ended when `version` was last activated: both have the time of that
/// transaction.
pub(super) async fn ended_by(
    connection: &mut SqliteConnection,
    version: i64,
) -> Result<Option<i64>, StoreError> {
    let id = sqlx::query_scalar(
        "SELECT id FROM twotower_experiments
         WHERE ended_at = (SELECT activated_at FROM twotower_models WHERE version = ?1)",
    )
    .bind(version)
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// The running experiment, as the transaction sees it.
pub(super) async fn running(
    connection: &mut SqliteConnection,
) -> Result<Option<Experiment>, StoreError> {
    let row: Option<RunningRow> = sqlx::query_as(
        "SELECT id, control_version, challenger_version, share, salt FROM twotower_experiments WHERE ended_at IS NULL",
    )
    .fetch_optional(connection)
    .await?;
    row.map(Experiment::from_row).transpose()
}

/// An experiment, and when it ran.
pub(super) struct Ran {
    pub(super) experiment: Experiment,
    from_us: i64,
    until_us: Option<i64>,
}

impl Ran {
    /// Whether it ran at that time, microseconds since 1970.
    pub(super) fn ran_at(&self, at_us: i64) -> bool {
        self.from_us <= at_us && self.until_us.is_none_or(|until_us| at_us < until_us)
    }
}

/// A [`RunningRow`], its start and its end.
type RanRow = (i64, i64, i64, f64, Vec<u8>, i64, Option<i64>);

/// The running experiment, and those that ended at or after the given time, microseconds since
/// 1970; the latest first.
pub(super) async fn since(
    connection: &mut SqliteConnection,
    at_us: Option<i64>,
) -> Result<Vec<Ran>, StoreError> {
    let rows: Vec<RanRow> = sqlx::query_as(
        "SELECT id, control_version, challenger_version, share, salt, started_at, ended_at FROM twotower_experiments
         WHERE ended_at IS NULL OR ended_at > ?1 ORDER BY id DESC",
    )
    .bind(at_us)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(
            |(id, control, challenger, share, salt, from_us, until_us)| {
                Ok(Ran {
                    experiment: Experiment::from_row((id, control, challenger, share, salt))?,
                    from_us,
                    until_us,
                })
            },
        )
        .collect()
}
