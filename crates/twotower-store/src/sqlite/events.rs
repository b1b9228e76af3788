use super::erasure::erased_among;
use super::experiments::since;
use super::{Sqlite, mapped, now_us, packed};
use crate::event::{Columns, distinct, liked_or_skipped};
use crate::{EventKind, EventPolicy, EventsRecorded, NewEvent, StoreError};
use sqlx::SqliteConnection;
use std::collections::HashSet;
use uuid::Uuid;

impl Sqlite {
    pub(crate) async fn record_events(
        &self,
        user: Uuid,
        events: &[NewEvent],
        policy: EventPolicy,
    ) -> Result<EventsRecorded, StoreError> {
        let new = distinct(events);
        let mut transaction = self.write().await?;
        if !erased_among(&mut transaction, &[user]).await?.is_empty() {
            return Err(StoreError::ErasedUser);
        }
        let known = match self.mapped_videos() {
            Some(sql) => {
                let videos: Vec<Uuid> = new.iter().map(|event| event.video).collect();
                let known = mapped::known(&mut transaction, sql, &videos).await?;
                known.into_iter().collect()
            }
            None => known(&mut transaction, &new).await?,
        };
        if let Some(event) = new.iter().find(|event| !known.contains(&event.video)) {
            return Err(StoreError::UnknownVideo(event.video));
        }
        let kept: Vec<&NewEvent> = new
            .iter()
            .filter(|event| policy.keeps(event.kind))
            .copied()
            .collect();
        let taken = insert(&mut transaction, user, &kept).await?;
        for (kind, statement) in [
            (
                EventKind::Like,
                "INSERT INTO likes (user_id, video_id, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            ),
            (
                EventKind::Skip,
                "INSERT INTO skips (user_id, video_id, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            ),
        ] {
            for event in liked_or_skipped(&new, policy, &taken, kind) {
                sqlx::query(statement)
                    .bind(user)
                    .bind(event.video)
                    .bind(event.at_us.unwrap_or_else(now_us))
                    .execute(&mut *transaction)
                    .await
                    .map_err(StoreError::from)
                    .map_err(|error| {
                        if error.is_foreign_key() {
                            StoreError::UnknownVideo(event.video)
                        } else {
                            error
                        }
                    })?;
            }
        }
        transaction.commit().await?;
        Ok(EventsRecorded::of(events, &new, &kept, &taken))
    }

    pub(crate) async fn count_events(&self, age_us: i64) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM twotower_events WHERE at < ?1")
            .bind(now_us() - age_us)
            .fetch_one(&self.pool)
            .await?;
        Ok(count as u64)
    }

    pub(crate) async fn delete_events(&self, age_us: i64, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM twotower_events WHERE (user_id, event_id) IN (
                 SELECT user_id, event_id FROM twotower_events WHERE at < ?1 LIMIT ?2
             )",
        )
        .bind(now_us() - age_us)
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

async fn known(
    connection: &mut SqliteConnection,
    events: &[&NewEvent],
) -> Result<HashSet<Uuid>, StoreError> {
    let videos: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM videos WHERE id IN (SELECT substr(?1, value * 16 + 1, 16) FROM json_each(?2))",
    )
    .bind(packed(events.iter().map(|event| event.video)))
    .bind(super::json_numbers(0..events.len() as i64))
    .fetch_all(connection)
    .await?;
    Ok(videos.into_iter().collect())
}

/// Returns the ids of the events that are new.
async fn insert(
    connection: &mut SqliteConnection,
    user: Uuid,
    events: &[&NewEvent],
) -> Result<Vec<Uuid>, StoreError> {
    let experiments = since(connection, Columns::new(events).earliest_us()).await?;
    let now_us = now_us();
    let mut taken = Vec::new();
    for event in events {
        let at_us = event.at_us.unwrap_or(now_us);
        // The experiment that ran at its time, which may have ended since. Where one ended at the
        // moment the next began, the later counts.
        let ran = experiments.iter().find(|ran| ran.ran_at(at_us));
        let done = sqlx::query(
            "INSERT INTO twotower_events (user_id, event_id, kind, video_id, model_version, experiment_id, arm, request_id, position,
                                          watch_fraction, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
        )
        .bind(user)
        .bind(event.event_id)
        .bind(event.kind.as_str())
        .bind(event.video)
        .bind(event.model_version)
        .bind(ran.map(|ran| ran.experiment.id))
        .bind(ran.map(|ran| ran.experiment.arm(user).as_str()))
        .bind(event.request_id.as_deref())
        .bind(event.position)
        .bind(event.watch_fraction)
        .bind(at_us)
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() == 1 {
            taken.push(event.event_id);
        }
    }
    Ok(taken)
}
