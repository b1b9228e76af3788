use super::erasure::{keep_erasures_out, was_erased};
use super::experiments::running;
use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session};
use crate::event::{Columns, distinct, liked_or_skipped};
use crate::{EventKind, EventPolicy, EventsRecorded, NewEvent, StoreError};
use uuid::Uuid;

const INSERT: &str = "
    INSERT INTO twotower.events (user_id, event_id, kind, video_id, model_version, experiment_id, arm, request_id, position,
                                 watch_fraction, at)
    SELECT $1, event_id, kind, video_id, model_version, $2, $3, request_id, position, watch_fraction,
           coalesce(timestamptz 'epoch' + at_us * interval '1 microsecond', now())
    FROM unnest($4::uuid[], $5::text[], $6::uuid[], $7::bigint[], $8::text[], $9::smallint[], $10::real[], $11::bigint[])
         AS new (event_id, kind, video_id, model_version, request_id, position, watch_fraction, at_us)
    ORDER BY event_id ON CONFLICT DO NOTHING RETURNING event_id";

const LIKE: &str = "
    INSERT INTO public.likes (user_id, video_id, created_at)
    SELECT $1, video_id, coalesce(timestamptz 'epoch' + at_us * interval '1 microsecond', now())
    FROM unnest($2::uuid[], $3::bigint[]) AS new (video_id, at_us) ON CONFLICT DO NOTHING";

const SKIP: &str = "
    INSERT INTO public.skips (user_id, video_id, created_at)
    SELECT $1, video_id, coalesce(timestamptz 'epoch' + at_us * interval '1 microsecond', now())
    FROM unnest($2::uuid[], $3::bigint[]) AS new (video_id, at_us) ON CONFLICT DO NOTHING";

impl Postgres {
    pub(crate) async fn record_events(
        &self,
        user: Uuid,
        events: &[NewEvent],
        policy: EventPolicy,
    ) -> Result<EventsRecorded, StoreError> {
        let new = distinct(events);
        let mut session = self.begin().await?;
        keep_erasures_out(&mut session).await?;
        let videos: Vec<Uuid> = new.iter().map(|event| event.video).collect();
        let (erased, known): (bool, Vec<Uuid>) = query_as(concat!(
            "SELECT ",
            was_erased!("$1"),
            ", ARRAY(SELECT id FROM public.videos WHERE id = ANY ($2))"
        ))
        .bind(user)
        .bind(&videos)
        .fetch_one(&mut *session)
        .await?;
        if erased {
            return Err(StoreError::ErasedUser);
        }
        if let Some(&unknown) = videos.iter().find(|video| !known.contains(video)) {
            return Err(StoreError::UnknownVideo(unknown));
        }
        let kept: Vec<&NewEvent> = new
            .iter()
            .filter(|event| policy.keeps(event.kind))
            .copied()
            .collect();
        let taken = insert(&mut session, user, &kept).await?;
        for (kind, statement) in [(EventKind::Like, LIKE), (EventKind::Skip, SKIP)] {
            let rows = liked_or_skipped(&new, policy, &taken, kind);
            if rows.is_empty() {
                continue;
            }
            query(statement)
                .bind(user)
                .bind(rows.iter().map(|event| event.video).collect::<Vec<_>>())
                .bind(rows.iter().map(|event| event.at_us).collect::<Vec<_>>())
                .execute(&mut *session)
                .await?;
        }
        session.commit().await?;
        let duplicates = (events.len() - new.len() + kept.len() - taken.len()) as u64;
        Ok(EventsRecorded {
            accepted: events.len() as u64 - duplicates,
            duplicates,
        })
    }

    pub(crate) async fn count_events(&self, age_us: i64) -> Result<u64, StoreError> {
        let mut session = self.begin_bulk().await?;
        let count: i64 = query_scalar(
            "SELECT count(*) FROM twotower.events WHERE at < now() - $1 * interval '1 microsecond'",
        )
        .bind(age_us)
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        Ok(count as u64)
    }

    pub(crate) async fn delete_events(&self, age_us: i64, limit: u32) -> Result<u64, StoreError> {
        let mut session = self.begin_bulk().await?;
        let done = query(
            "DELETE FROM twotower.events WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM twotower.events WHERE at < now() - $1 * interval '1 microsecond' LIMIT $2
             ))",
        )
        .bind(age_us)
        .bind(i64::from(limit))
        .execute(&mut *session)
        .await?;
        session.commit().await?;
        Ok(done.rows_affected())
    }
}

/// Returns the ids that were not there.
async fn insert(
    session: &mut Session,
    user: Uuid,
    events: &[&NewEvent],
) -> Result<Vec<Uuid>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let experiment = running(session).await?;
    let arm = experiment
        .as_ref()
        .map(|running| running.arm(user).as_str());
    let columns = Columns::new(events);
    Ok(query_scalar(INSERT)
        .bind(user)
        .bind(experiment.map(|experiment| experiment.id))
        .bind(arm)
        .bind(columns.event_ids)
        .bind(columns.kinds)
        .bind(columns.videos)
        .bind(columns.model_versions)
        .bind(columns.request_ids)
        .bind(columns.positions)
        .bind(columns.watch_fractions)
        .bind(columns.times)
        .fetch_all(&mut **session)
        .await?)
}
