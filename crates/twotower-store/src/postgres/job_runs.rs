use super::Postgres;
use super::session::{query, query_as, query_scalar};
use crate::job_run::{KILLED, Row, kept};
use crate::{FinishedRun, NewRun, StoreError};
use std::time::Duration;

impl Postgres {
    pub(crate) async fn begin_run(&self, run: &NewRun) -> Result<i64, StoreError> {
        let mut session = self.begin().await?;
        query(
            "UPDATE twotower.job_runs SET state = 'failed', finished_at = now(), message = $4
             WHERE job = $1 AND state = 'running' AND (host = $2 OR started_at < now() - $3 * interval '1 second')",
        )
        .bind(&run.job)
        .bind(&run.host)
        .bind(run.presumed_dead.as_secs_f64())
        .bind(KILLED)
        .execute(&mut *session)
        .await?;
        let id = query_scalar(
            "INSERT INTO twotower.job_runs (job, due_at, host, pid)
             VALUES ($1, to_timestamp($2::double precision / 1000000), $3, $4) RETURNING id",
        )
        .bind(&run.job)
        .bind(run.due_at_us)
        .bind(&run.host)
        .bind(i64::from(run.pid))
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        Ok(id)
    }

    pub(crate) async fn skip_run(&self, run: &NewRun, message: &str) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        query(
            "INSERT INTO twotower.job_runs (job, due_at, host, pid, state, finished_at, message)
             VALUES ($1, to_timestamp($2::double precision / 1000000), $3, $4, 'skipped', now(), $5)",
        )
        .bind(&run.job)
        .bind(run.due_at_us)
        .bind(&run.host)
        .bind(i64::from(run.pid))
        .bind(kept(message))
        .execute(&mut *session)
        .await?;
        session.commit().await
    }

    pub(crate) async fn finish_run(
        &self,
        id: i64,
        finished: &FinishedRun,
    ) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        query(
            "UPDATE twotower.job_runs
             SET state = $2, finished_at = now(), attempts = $3, exit_code = $4, model_version = $5, message = $6
             WHERE id = $1 AND state = 'running'",
        )
        .bind(id)
        .bind(finished.state.as_str())
        .bind(finished.attempts as i32)
        .bind(finished.exit_code)
        .bind(finished.model_version)
        .bind(finished.message())
        .execute(&mut *session)
        .await?;
        session.commit().await
    }

    pub(crate) async fn runs(&self, job: Option<&str>, limit: u32) -> Result<Vec<Row>, StoreError> {
        let mut session = self.begin().await?;
        let rows = query_as(
            "SELECT id, job, state, (extract(epoch FROM due_at) * 1000000)::bigint,
                    (extract(epoch FROM started_at) * 1000000)::bigint, (extract(epoch FROM finished_at) * 1000000)::bigint,
                    host, pid, attempts, exit_code, model_version, message
             FROM twotower.job_runs WHERE $1::text IS NULL OR job = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(job)
        .bind(i64::from(limit))
        .fetch_all(&mut *session)
        .await?;
        session.commit().await?;
        Ok(rows)
    }

    pub(crate) async fn prune_runs(&self, age: Duration) -> Result<u64, StoreError> {
        let mut session = self.begin().await?;
        let done = query(
            "DELETE FROM twotower.job_runs WHERE finished_at < now() - $1 * interval '1 second'",
        )
        .bind(age.as_secs_f64())
        .execute(&mut *session)
        .await?;
        session.commit().await?;
        Ok(done.rows_affected())
    }
}
