use super::Sqlite;
use crate::{FileHealth, Health, StepLimits, StoreError, Upkeep};
use sqlx::{AssertSqlSafe, SqliteConnection};

impl Sqlite {
    pub(crate) async fn health(&self) -> Result<Health, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let pages = pragma(&mut connection, "PRAGMA page_count").await?;
        let free = pragma(&mut connection, "PRAGMA freelist_count").await?;
        let size = pragma(&mut connection, "PRAGMA page_size").await?;
        Ok(Health {
            file: Some(FileHealth {
                bytes: (pages * size) as u64,
                free_bytes: (free * size) as u64,
            }),
            ..Health::default()
        })
    }

    pub(crate) async fn maintain(
        &self,
        step: &Upkeep,
        limits: StepLimits,
    ) -> Result<u64, StoreError> {
        match step {
            Upkeep::Optimize => self.patiently("PRAGMA optimize", limits).await,
            Upkeep::DeleteRuns { age } => self.prune_runs(*age).await,
            Upkeep::CheckFile => self.check_file().await,
            Upkeep::ShrinkFile => {
                // Another writer is detected by then, and not waited for.
                self.patiently("BEGIN IMMEDIATE; ROLLBACK", limits).await?;
                self.rewrite().await.map(|()| 0)
            }
            // SQLite has no dead rows and no such index, and no Edge Functions.
            Upkeep::Vacuum { .. }
            | Upkeep::Analyze { .. }
            | Upkeep::Rebuild { .. }
            | Upkeep::Drop { .. }
            | Upkeep::DeleteAnswers { .. } => Ok(0),
        }
    }

    /// Runs statements that wait for locks no longer than the limit.
    async fn patiently(
        &self,
        statements: &'static str,
        limits: StepLimits,
    ) -> Result<u64, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let before = pragma(&mut connection, "PRAGMA busy_timeout").await?;
        let patience = limits.lock.as_millis();
        let set = |ms: String| AssertSqlSafe(format!("PRAGMA busy_timeout = {ms}"));
        sqlx::raw_sql(set(patience.to_string()))
            .execute(&mut *connection)
            .await?;
        let done = sqlx::raw_sql(statements).execute(&mut *connection).await;
        sqlx::raw_sql(set(before.to_string()))
            .execute(&mut *connection)
            .await?;
        done?;
        Ok(0)
    }

    async fn check_file(&self) -> Result<u64, StoreError> {
        let fault: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
            .fetch_one(&self.pool)
            .await?;
        if fault == "ok" {
            Ok(0)
        } else {
            Err(StoreError::DamagedFile { fault })
        }
    }
}

async fn pragma(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(statement).fetch_one(connection).await?)
}
