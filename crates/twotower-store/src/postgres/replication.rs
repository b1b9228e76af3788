//! Positions in the write-ahead log of the primary and of replicas, and users' states on a replica.

use super::Postgres;
use super::session::{Session, query_as};
use super::user_state::states;
use crate::replica::{PrimaryPosition, ReplicaStates, WalPosition};
use crate::{StoreError, UserState};
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::sync::PoisonError;
use std::time::Instant;
use uuid::Uuid;

const REPLAYED: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END AS replayed";

impl Postgres {
    pub(crate) async fn primary_position(&self) -> Result<Option<PrimaryPosition>, StoreError> {
        let mut session = self.begin().await?;
        // The insert position rather than the write position: with `synchronous_commit = off`,
        // commits are reported before they are written.
        let (inserting, segment, server): (Option<i64>, i64, String) = query_as(
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END,
                    pg_size_bytes(current_setting('wal_segment_size')),
                    concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())",
        )
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        let inserting = inserting.ok_or(StoreError::Standby)?;
        Ok(Some(PrimaryPosition {
            position: WalPosition::end_of_last(inserting as u64, segment as u64),
            server,
        }))
    }

    pub(crate) async fn replica_position(&self) -> Result<Option<WalPosition>, StoreError> {
        let rows = Session::run_alone(&self.pool, REPLAYED, self.statement_timeout).await?;
        replayed(rows.first())
    }

    /// The position is read in an earlier statement, so that the snapshot of the next one is at
    /// least as new.
    pub(crate) async fn replica_user_states(
        &self,
        users: &[Uuid],
        skip_limit: u32,
    ) -> Result<ReplicaStates, StoreError> {
        let statement = format!("{REPLAYED}; {}", self.states_statement(users, skip_limit));
        let rows = Session::run_alone(&self.pool, &statement, self.statement_timeout).await?;
        let position = replayed(rows.first())?;
        let states: Vec<Option<UserState>> = states(rows.get(1..).unwrap_or_default(), users)?;
        Ok(ReplicaStates { position, states })
    }

    /// Closes every currently open connection when it is next taken.
    pub(crate) fn drop_connections(&self) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed = Some(Instant::now());
    }
}

fn replayed(row: Option<&PgRow>) -> Result<Option<WalPosition>, StoreError> {
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    let bytes: Option<i64> = row.try_get(0)?;
    Ok(bytes.map(|bytes| WalPosition(bytes as u64)))
}
