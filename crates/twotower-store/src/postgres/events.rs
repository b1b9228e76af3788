use super::erasure::was_erased;
use super::experiments::since;
use super::pairs::keep_others_out;
use super::session::{query, query_scalar};
use super::{Postgres, Session, unknown_video};
use crate::event::{Columns, distinct, liked_or_skipped};
use crate::{EventKind, EventPolicy, EventsRecorded, InteractionKind, NewEvent, StoreError};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Inserts events. Each belongs to the experiment that ran at its time, which may have ended since.
/// $2 are the possible experiments, $3 the user's arm in each. Where one ended at the moment the
/// next began, the later counts.
const INSERT: &str = "
    INSERT INTO twotower.events (user_id, event_id, kind, video_id, model_version, experiment_id, arm, request_id, position,
                                 watch_fraction, at)
    SELECT $1, event_id, kind, video_id, model_version, experiment_id, arm, request_id, position, watch_fraction, new.at
    FROM (
        SELECT *, coalesce(timestamptz 'epoch' + at_us * interval '1 microsecond', now()) AS at
        FROM unnest($4::uuid[], $5::text[], $6::uuid[], $7::bigint[], $8::text[], $9::smallint[], $10::real[], $11::bigint[])
             AS sent (event_id, kind, video_id, model_version, request_id, position, watch_fraction, at_us)
    ) AS new
    LEFT JOIN (
        SELECT id AS experiment_id, arm, started_at, ended_at
        FROM unnest($2::bigint[], $3::text[]) AS possible (id, arm) JOIN twotower.experiments USING (id)
    ) AS experiment ON new.at >= started_at AND (ended_at IS NULL OR new.at < ended_at)
    ORDER BY event_id, experiment_id DESC ON CONFLICT DO NOTHING RETURNING event_id";

impl Postgres {
    pub(crate) async fn record_events(
        &self,
        user: Uuid,
        events: &[NewEvent],
        policy: EventPolicy,
    ) -> Result<EventsRecorded, StoreError> {
        let new = distinct(events);
        let mut session = self.begin().await?;
        keep_others_out(&mut session, user).await?;
        let videos: Vec<Uuid> = new.iter().map(|event| event.video).collect();
        let known = match self.mapped_videos() {
            Some(query) => {
                let is_among = query.is_among("id", "$2::uuid[]");
                format!(
                    "SELECT source.id::uuid FROM {} WHERE {is_among}",
                    query.rows()
                )
            }
            None => "SELECT id FROM public.videos WHERE id = ANY ($2)".to_owned(),
        };
        // It contains the operator's SQL from the configuration, or ours.
        let looked = format!(
            concat!("SELECT ", was_erased!("$1"), ", ARRAY({known})"),
            known = known
        );
        let (erased, known): (bool, Vec<Uuid>) = sqlx::query_as(AssertSqlSafe(looked))
            .persistent(false)
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
        for (event, kind) in [
            (EventKind::Like, InteractionKind::Like),
            (EventKind::Skip, InteractionKind::Skip),
        ] {
            let rows = liked_or_skipped(&new, policy, &taken, event);
            if rows.is_empty() {
                continue;
            }
            // It may contain the operator's SQL from the configuration.
            sqlx::query(AssertSqlSafe(self.insert_missing(kind)))
                .persistent(false)
                .bind(user)
                .bind(rows.iter().map(|event| event.video).collect::<Vec<_>>())
                .bind(rows.iter().map(|event| event.at_us).collect::<Vec<_>>())
                .execute(&mut *session)
                .await
                .map_err(unknown_video)?;
        }
        session.commit().await?;
        Ok(EventsRecorded::of(events, &new, &kept, &taken))
    }

    /// Inserts likes or skips of the user $1 that are not there: videos ($2) and times in
    /// microseconds ($3). A table of the application may have no unique key that would tell.
    fn insert_missing(&self, kind: InteractionKind) -> String {
        format!(
            "INSERT INTO public.{} (user_id, video_id, created_at)
             SELECT $1, video_id, coalesce(timestamptz 'epoch' + at_us * interval '1 microsecond', now())
             FROM unnest($2::uuid[], $3::bigint[]) AS new (video_id, at_us)
             WHERE NOT {} ON CONFLICT DO NOTHING",
            kind.table(),
            self.is_there(kind, "$1", "new.video_id")
        )
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

/// Returns the ids of the events that are new.
async fn insert(
    session: &mut Session,
    user: Uuid,
    events: &[&NewEvent],
) -> Result<Vec<Uuid>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let columns = Columns::new(events);
    let experiments = since(session, columns.earliest_us()).await?;
    let arms = experiments.iter();
    let arms: Vec<&str> = arms.map(|ran| ran.arm(user).as_str()).collect();
    let experiments: Vec<i64> = experiments.iter().map(|ran| ran.id).collect();
    Ok(query_scalar(INSERT)
        .bind(user)
        .bind(experiments)
        .bind(arms)
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
