use super::{Sqlite, now_us};
use crate::lease::{Lease, LeaseHolder, LeaseOutcome};
use crate::{StoreError, store};
use sqlx::{Sqlite as Database, Transaction};
use std::time::Duration;

impl Sqlite {
    pub(crate) async fn take_lease(
        &self,
        asking: &LeaseHolder,
        lifetime: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let lifetime = lifetime.min(Lease::LONGEST);
        let mut transaction = self.write().await?;
        let now = now_us();
        let fence: Option<i64> = sqlx::query_scalar(
            "UPDATE twotower_publisher SET fence = fence + 1, host = ?1, pid = ?2, since = ?3, expires_at = ?4
             WHERE expires_at <= ?5 OR expires_at > ?6 OR (host, pid, since) = (?1, ?2, ?3) RETURNING fence",
        )
        .bind(&asking.host)
        .bind(asking.pid)
        .bind(asking.since_us)
        .bind(now + lifetime.as_micros() as i64)
        .bind(now)
        .bind(now + Lease::LONGEST.as_micros() as i64)
        .fetch_optional(&mut *transaction)
        .await?;
        let outcome = if let Some(fence) = fence {
            LeaseOutcome::Taken(Lease { fence, lifetime })
        } else {
            let (host, pid, since_us) =
                sqlx::query_as("SELECT host, pid, since FROM twotower_publisher")
                    .fetch_one(&mut *transaction)
                    .await?;
            LeaseOutcome::Held(LeaseHolder {
                host,
                pid,
                since_us,
            })
        };
        transaction.commit().await?;
        Ok(outcome)
    }

    pub(crate) async fn renew_lease(&self, lease: Lease) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE twotower_publisher SET expires_at = ?2 WHERE fence = ?1")
            .bind(lease.fence)
            .bind(now_us() + lease.lifetime.as_micros() as i64)
            .execute(&self.pool)
            .await?;
        store::still_ours(done.rows_affected())
    }

    pub(crate) async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        sqlx::query("UPDATE twotower_publisher SET expires_at = 0 WHERE fence = ?1")
            .bind(lease.fence)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Begins a transaction of the publisher, if `lease` is given. Nobody can take the lease over
    /// before its end.
    pub(super) async fn publish(
        &self,
        lease: Option<Lease>,
    ) -> Result<Transaction<'static, Database>, StoreError> {
        let mut transaction = self.write().await?;
        if let Some(lease) = lease {
            let ours: i64 =
                sqlx::query_scalar("SELECT count(*) FROM twotower_publisher WHERE fence = ?1")
                    .bind(lease.fence)
                    .fetch_one(&mut *transaction)
                    .await?;
            store::still_ours(ours as u64)?;
        }
        Ok(transaction)
    }
}
