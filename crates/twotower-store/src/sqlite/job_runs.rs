use super::{Sqlite, now_us};
use crate::job_run::{KILLED, Row, kept};
use crate::{FinishedRun, NewRun, StoreError};
use std::time::Duration;

impl Sqlite {
    pub(crate) async fn begin_run(&self, run: &NewRun) -> Result<i64, StoreError> {
        let mut transaction = self.write().await?;
        let now = now_us();
        sqlx::query(
            "UPDATE twotower_job_runs SET state = 'failed', finished_at = ?3, message = ?5
             WHERE job = ?1 AND state = 'running' AND (host = ?2 OR started_at < ?4)",
        )
        .bind(&run.job)
        .bind(&run.host)
        .bind(now)
        .bind(now - run.presumed_dead.as_micros() as i64)
        .bind(KILLED)
        .execute(&mut *transaction)
        .await?;
        let id = sqlx::query_scalar(
            "INSERT INTO twotower_job_runs (job, due_at, started_at, host, pid) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
        )
        .bind(&run.job)
        .bind(run.due_at_us)
        .bind(now)
        .bind(&run.host)
        .bind(run.pid)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(id)
    }

    pub(crate) async fn skip_run(&self, run: &NewRun, message: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO twotower_job_runs (job, due_at, started_at, finished_at, host, pid, state, message)
             VALUES (?1, ?2, ?3, ?3, ?4, ?5, 'skipped', ?6)",
        )
        .bind(&run.job)
        .bind(run.due_at_us)
        .bind(now_us())
        .bind(&run.host)
        .bind(run.pid)
        .bind(kept(message))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn finish_run(
        &self,
        id: i64,
        finished: &FinishedRun,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE twotower_job_runs
             SET state = ?2, finished_at = ?3, attempts = ?4, exit_code = ?5, model_version = ?6, message = ?7
             WHERE id = ?1 AND state = 'running'",
        )
        .bind(id)
        .bind(finished.state.as_str())
        .bind(now_us())
        .bind(finished.attempts)
        .bind(finished.exit_code)
        .bind(finished.model_version)
        .bind(finished.message())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn runs(&self, job: Option<&str>, limit: u32) -> Result<Vec<Row>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, job, state, due_at, started_at, finished_at, host, pid, attempts, exit_code, model_version, message
             FROM twotower_job_runs WHERE ?1 IS NULL OR job = ?1 ORDER BY id DESC LIMIT ?2",
        )
        .bind(job)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    pub(crate) async fn prune_runs(&self, age: Duration) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM twotower_job_runs WHERE finished_at < ?1")
            .bind(now_us() - age.as_micros() as i64)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}
