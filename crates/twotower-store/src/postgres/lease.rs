use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session};
use crate::lease::{Lease, LeaseHolder, LeaseOutcome};
use crate::{StoreError, store};
use std::time::Duration;

/// A busy machine may pause for this long without being suspended.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

impl Postgres {
    pub(crate) async fn take_lease(
        &self,
        asking: &LeaseHolder,
        lifetime: Duration,
    ) -> Result<LeaseOutcome, StoreError> {
        let lifetime = lifetime.min(Lease::LONGEST);
        let mut session = self.begin().await?;
        // A locked row belongs to a publisher in the middle of a write, expired or not. A repeated
        // request gets the same answer as the first: the first answer may have been lost. The time in
        // the fence keeps one from being given twice where a failover, or a recovery to an earlier
        // moment, has lost the last.
        let fence: Option<i64> = query_scalar(
            "UPDATE twotower.publisher SET
                 fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
                 host = $1, pid = $2, since = timestamptz 'epoch' + $3 * interval '1 microsecond',
                 expires_at = clock_timestamp() + $4 * interval '1 millisecond'
             WHERE singleton IN (
                 SELECT singleton FROM twotower.publisher
                 WHERE expires_at <= clock_timestamp() OR expires_at > clock_timestamp() + $5 * interval '1 millisecond'
                 OR (host, pid, since) = ($1, $2, timestamptz 'epoch' + $3 * interval '1 microsecond')
                 FOR UPDATE SKIP LOCKED
             )
             RETURNING fence",
        )
        .bind(&asking.host)
        .bind(i64::from(asking.pid))
        .bind(asking.since_us)
        .bind(lifetime.as_millis() as i64)
        .bind(Lease::LONGEST.as_millis() as i64)
        .fetch_optional(&mut *session)
        .await?;
        let outcome = match fence {
            Some(fence) => LeaseOutcome::Taken(Lease { fence, lifetime }),
            None => LeaseOutcome::Held(holder(&mut session).await?),
        };
        session.commit().await?;
        Ok(outcome)
    }

    pub(crate) async fn renew_lease(&self, lease: Lease) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        let done = query(
            "UPDATE twotower.publisher SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' WHERE fence = $1",
        )
        .bind(lease.fence)
        .bind(lease.lifetime.as_millis() as i64)
        .execute(&mut *session)
        .await?;
        session.commit().await?;
        store::still_ours(done.rows_affected())
    }

    pub(crate) async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        let mut session = self.begin().await?;
        query("UPDATE twotower.publisher SET expires_at = '-infinity' WHERE fence = $1")
            .bind(lease.fence)
            .execute(&mut *session)
            .await?;
        session.commit().await
    }

    /// Begins a transaction of the publisher, if `lease` is given. Nobody can take the lease over
    /// before its end.
    pub(super) async fn begin_publishing(
        &self,
        lease: Option<Lease>,
        timeout: Duration,
    ) -> Result<Session, StoreError> {
        let Some(lease) = lease else {
            return Session::begin(&self.pool, "BEGIN", timeout).await;
        };
        // A process suspended in a transaction would hold the lease for ever. The server ends such
        // a transaction.
        let begin = format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}",
            lease.lifetime.max(LEAST_PATIENCE).as_millis()
        );
        let mut session = Session::begin(&self.pool, &begin, timeout).await?;
        let ours = query("SELECT FROM twotower.publisher WHERE fence = $1 FOR KEY SHARE")
            .bind(lease.fence);
        let found = ours.fetch_all(&mut *session).await?.len();
        store::still_ours(found as u64)?;
        Ok(session)
    }
}

async fn holder(session: &mut Session) -> Result<LeaseHolder, StoreError> {
    let (host, pid, since_us): (String, i64, i64) = query_as(
        "SELECT host, pid, (extract(epoch FROM since) * 1000000)::bigint FROM twotower.publisher",
    )
    .fetch_one(&mut **session)
    .await?;
    Ok(LeaseHolder {
        host,
        pid: pid as u32,
        since_us,
    })
}
