use super::{Sqlite, mapped, now_us};
use crate::experiment::{
    Arm, ArmCoverage, ArmOrigins, ArmTotals, Experiment, ExperimentRecord, ExperimentUser,
    NewExperiment,
};
use crate::{Lease, StoreError};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

type Running = (i64, i64, i64, f64, Vec<u8>);

/// `id`, `maker` and time of publication of our own videos, of which it is known when one came.
const OWN_VIDEOS: &str =
    "SELECT id, maker, coalesce(published_at, created_at) AS published FROM videos";

/// One row a user: what [`ExperimentUser`] counts.
fn users(videos: &str) -> String {
    format!("
    SELECT count(*) FILTER (WHERE shown), count(*) FILTER (WHERE shown AND clicked), count(*) FILTER (WHERE shown AND liked),
           sum(views), total(watched), sum(measured),
           count(maker) FILTER (WHERE shown), count(DISTINCT maker) FILTER (WHERE shown),
           count(age) FILTER (WHERE shown), total(age) FILTER (WHERE shown)
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
        let rows = sqlx::query(
            "SELECT id, control_version, challenger_version, share, started_at, ended_at, started_by, reason
             FROM twotower_experiments ORDER BY id DESC",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ExperimentRecord {
                    id: row.try_get(0)?,
                    control: row.try_get(1)?,
                    challenger: row.try_get(2)?,
                    share: row.try_get(3)?,
                    started_at_us: row.try_get(4)?,
                    ended_at_us: row.try_get(5)?,
                    by: row.try_get(6)?,
                    reason: row.try_get(7)?,
                })
            })
            .collect()
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
        // Around the operator's own SQL, from the configuration, or ours.
        let mut rows = sqlx::query(AssertSqlSafe(users(&videos)))
            .persistent(false)
            .bind(id)
            .bind(arm.as_str())
            .fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            let count = |column: usize| row.try_get::<i64, _>(column).map(|count| count as u64);
            each(ExperimentUser {
                shown: count(0)?,
                clicked: count(1)?,
                liked: count(2)?,
                views: count(3)?,
                watched: row.try_get(4)?,
                measured: count(5)?,
                with_maker: count(6)?,
                makers: count(7)?,
                dated: count(8)?,
                age_days: row.try_get(9)?,
            });
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
        let (videos, named, others, catalogue): (i64, i64, i64, i64) =
            sqlx::query_as(AssertSqlSafe(totals))
                .persistent(false)
                .bind(id)
                .bind(arm.as_str())
                .fetch_one(&mut *transaction)
                .await?;
        Ok(ArmTotals {
            coverage: ArmCoverage {
                videos: videos as u64,
                catalogue: catalogue as u64,
            },
            origins: ArmOrigins {
                named: named as u64,
                others: others as u64,
            },
        })
    }
}

/// Ends the experiment that runs, if one does, and returns its number.
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

/// The experiment that ended when `version` was made active the last time: both have the time of that transaction.
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

/// The experiment that runs, as the transaction sees it.
pub(super) async fn running(
    connection: &mut SqliteConnection,
) -> Result<Option<Experiment>, StoreError> {
    let row: Option<Running> = sqlx::query_as(
        "SELECT id, control_version, challenger_version, share, salt FROM twotower_experiments WHERE ended_at IS NULL",
    )
    .fetch_optional(connection)
    .await?;
    row.map(|(id, control, challenger, share, salt)| {
        Experiment::from_row(id, control, challenger, share, salt)
    })
    .transpose()
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

/// The experiment that runs, and those that were over no earlier than at the given time, microseconds since 1970; the latest first.
pub(super) async fn since(
    connection: &mut SqliteConnection,
    at_us: Option<i64>,
) -> Result<Vec<Ran>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, control_version, challenger_version, share, salt, started_at, ended_at FROM twotower_experiments
         WHERE ended_at IS NULL OR ended_at > ?1 ORDER BY id DESC",
    )
    .bind(at_us)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let [id, control, challenger] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
            let (share, salt) = (row.try_get(3)?, row.try_get(4)?);
            Ok(Ran {
                experiment: Experiment::from_row(id, control, challenger, share, salt)?,
                from_us: row.try_get(5)?,
                until_us: row.try_get(6)?,
            })
        })
        .collect()
}
