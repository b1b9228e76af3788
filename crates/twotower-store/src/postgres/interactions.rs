use super::erasure::{erased_among, keep_erasures_out, tombstone, was_erased};
use super::pairs::{OwnTable, keep_others_out, keep_writers_out};
use super::session::{query, query_as};
use super::user_state::distinct;
use super::{CHUNK, Postgres, unknown_video};
use crate::store::BULK_TIMEOUT;
use crate::{
    Counts, InteractionKind, InteractionRow, StoreError, UserActivity, UserHistory, UserState,
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

impl Postgres {
    pub(crate) async fn write_interactions(
        &self,
        kind: InteractionKind,
        rows: &[InteractionRow],
    ) -> Result<u64, StoreError> {
        let mut session = self.begin_bulk().await?;
        keep_erasures_out(&mut session).await?;
        let table = OwnTable::look(&mut session, kind).await?;
        if !table.has_key {
            keep_writers_out(&mut session).await?;
        }
        let insert = table.insert();
        let mut new = 0;
        for chunk in rows.chunks(CHUNK) {
            // Rows are sorted by user.
            let mut users: Vec<Uuid> = chunk.iter().map(|row| row.user).collect();
            users.dedup();
            let erased = erased_among(&mut session, &users).await?;
            let kept = || chunk.iter().filter(|row| !erased.contains(&row.user));
            // The statement is made of our own constants.
            let mut statement = sqlx::query(AssertSqlSafe(&*insert))
                .persistent(false)
                .bind(kept().map(|row| row.user).collect::<Vec<_>>())
                .bind(kept().map(|row| row.video).collect::<Vec<_>>())
                .bind(kept().map(|row| row.at_us).collect::<Vec<_>>());
            if !table.has_key {
                statement = statement.bind(&users);
            }
            let done = statement
                .execute(&mut *session)
                .await
                .map_err(unknown_video)?;
            new += done.rows_affected();
        }
        session.commit().await?;
        Ok(new)
    }

    pub(crate) async fn record(
        &self,
        kind: InteractionKind,
        user: Uuid,
        video: Uuid,
    ) -> Result<bool, StoreError> {
        let known = match self.mapped_videos() {
            Some(query) => {
                let is = query.is("id", "$2");
                format!(
                    "SELECT source.id::uuid AS id FROM {} WHERE {is} LIMIT 1",
                    query.rows()
                )
            }
            None => "SELECT id FROM public.videos WHERE id = $2 LIMIT 1".to_owned(),
        };
        // A table of the application may have no foreign key, so the video is looked up in the same
        // statement. It may have no unique key either, so the row is looked up as well. The
        // operator's SQL stands in the first WITH query, where it sees no names of ours.
        let insert = format!(
            concat!(
                "WITH state AS (SELECT ",
                was_erased!("$1"),
                " AS erased, ({known}) AS video, {is_there} AS is_there),
                 new AS (INSERT INTO public.{table} (user_id, video_id, created_at)
                         SELECT $1, video, now() FROM state WHERE NOT erased AND video IS NOT NULL AND NOT is_there
                         ON CONFLICT DO NOTHING RETURNING 1)
                 SELECT erased, video IS NOT NULL, EXISTS (SELECT FROM new) FROM state"
            ),
            known = known,
            is_there = self.is_there(kind, "$1", "$2"),
            table = kind.table(),
        );
        let mut session = self.begin().await?;
        keep_others_out(&mut session, user).await?;
        let (erased, known, new): (bool, bool, bool) = sqlx::query_as(AssertSqlSafe(insert))
            .persistent(false)
            .bind(user)
            .bind(video)
            .fetch_one(&mut *session)
            .await
            .map_err(unknown_video)?;
        session.commit().await?;
        if erased {
            Err(StoreError::ErasedUser)
        } else if known {
            Ok(new)
        } else {
            Err(StoreError::UnknownVideo(video))
        }
    }

    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        let mut session = self.begin_bulk().await?;
        let counts: (i64, i64, i64, i64) = query_as(
            "SELECT (SELECT count(*) FROM public.videos), (SELECT count(*) FROM public.likes),
                    (SELECT count(*) FROM public.skips),
                    (SELECT count(*) FROM (SELECT user_id FROM public.likes UNION SELECT user_id FROM public.skips) AS users)",
        )
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        Ok(counts.into())
    }

    pub(crate) async fn user_history(
        &self,
        user: Uuid,
        limit: u32,
    ) -> Result<UserHistory, StoreError> {
        if [InteractionKind::Like, InteractionKind::Skip]
            .iter()
            .any(|&kind| self.mapped_interactions(kind).is_some())
        {
            let state = self.one_state(user, limit).await?;
            let mut likes = state.likes;
            likes.drain(..likes.len().saturating_sub(limit as usize));
            let skips = state.skips;
            return Ok(UserHistory { likes, skips });
        }
        let mut session = self.begin().await?;
        let likes = OwnTable::look(&mut session, InteractionKind::Like).await?;
        let skips = OwnTable::look(&mut session, InteractionKind::Skip).await?;
        // A row that is neither liked nor skipped stands for a tombstone. A UNION takes the least
        // time to plan.
        let statement = format!(
            "SELECT liked, video_id FROM (
                 (SELECT true AS liked, video_id, created_at FROM public.likes WHERE user_id = $1 AND {}
                  ORDER BY created_at DESC, video_id DESC LIMIT $2)
                 UNION ALL
                 (SELECT false, video_id, created_at FROM public.skips WHERE user_id = $1 AND {}
                  ORDER BY created_at DESC, video_id DESC LIMIT $2)
                 UNION ALL
                 (SELECT NULL, NULL, NULL FROM {})
             ) AS latest ORDER BY created_at, video_id",
            likes.counts(),
            skips.counts(),
            tombstone!("$1")
        );
        // It is ours.
        let latest: Vec<(Option<bool>, Option<Uuid>)> = sqlx::query_as(AssertSqlSafe(statement))
            .persistent(false)
            .bind(user)
            .bind(i64::from(limit))
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        let mut history = UserHistory::default();
        for (liked, video) in latest {
            match liked {
                Some(true) => history.likes.extend(video),
                Some(false) => history.skips.extend(video),
                None => return Err(StoreError::ErasedUser),
            }
        }
        history.likes = distinct(history.likes);
        history.skips = distinct(history.skips);
        Ok(history)
    }

    async fn one_state(&self, user: Uuid, skip_limit: u32) -> Result<UserState, StoreError> {
        let states = self.user_states(&[user], skip_limit).await?;
        let state = states.into_iter().next().flatten();
        state.ok_or(StoreError::ErasedUser)
    }

    pub(crate) async fn liked_videos(&self, user: Uuid) -> Result<Vec<Uuid>, StoreError> {
        if self.mapped_interactions(InteractionKind::Like).is_some() {
            return Ok(self.one_state(user, 0).await?.likes);
        }
        let mut session = self.begin().await?;
        let table = OwnTable::look(&mut session, InteractionKind::Like).await?;
        let statement = format!("SELECT video_id FROM {} WHERE user_id = $1", table.pairs());
        // It is ours.
        let videos = sqlx::query_scalar(AssertSqlSafe(statement))
            .persistent(false)
            .bind(user)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(videos)
    }

    pub(crate) async fn like_counts(&self) -> Result<Vec<(Uuid, u64)>, StoreError> {
        let mapped = self.mapped_interactions(InteractionKind::Like);
        let (mut session, statement) = if let Some(query) = mapped {
            // A query may return a like twice.
            let statement = format!(
                "SELECT video_id, count(*) FROM (SELECT DISTINCT source.video_id::uuid AS video_id, source.user_id FROM {}) AS liked
                 WHERE video_id IS NOT NULL GROUP BY video_id",
                query.rows()
            );
            (self.begin_reading(BULK_TIMEOUT).await?, statement)
        } else {
            let mut session = self.begin_bulk().await?;
            let table = OwnTable::look(&mut session, InteractionKind::Like).await?;
            let pairs = table.pairs();
            let statement = format!("SELECT video_id, count(*) FROM {pairs} GROUP BY video_id");
            (session, statement)
        };
        // It is ours, or contains the operator's SQL from the configuration and runs in a read-only
        // transaction.
        let counts: Vec<(Uuid, i64)> = sqlx::query_as(AssertSqlSafe(statement))
            .persistent(false)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(counts
            .into_iter()
            .map(|(id, count)| (id, count as u64))
            .collect())
    }

    pub(crate) async fn refresh_statistics(&self) -> Result<(), StoreError> {
        let mut session = self.begin_bulk().await?;
        query("SELECT twotower.refresh_statistics()")
            .execute(&mut *session)
            .await?;
        session.commit().await
    }

    pub(crate) async fn active_users(&self, limit: u32) -> Result<Vec<UserActivity>, StoreError> {
        let mapped = self.mapped_interactions(InteractionKind::Like);
        let (mut session, statement) = if let Some(query) = mapped {
            let statement = format!(
                "SELECT source.user_id::uuid, count(DISTINCT source.video_id) FROM {} WHERE source.user_id IS NOT NULL
                 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1",
                query.rows()
            );
            (self.begin_reading(self.statement_timeout).await?, statement)
        } else {
            let mut session = self.begin().await?;
            let table = OwnTable::look(&mut session, InteractionKind::Like).await?;
            let statement = format!(
                "SELECT user_id, count(*) FROM {} GROUP BY user_id ORDER BY count(*) DESC, user_id LIMIT $1",
                table.pairs()
            );
            (session, statement)
        };
        let users: Vec<(Uuid, i64)> = sqlx::query_as(AssertSqlSafe(statement))
            .persistent(false)
            .bind(i64::from(limit))
            .fetch_all(&mut *session)
            .await?;
        let ids: Vec<Uuid> = users.iter().map(|&(user, _)| user).collect();
        let erased = erased_among(&mut session, &ids).await?;
        session.commit().await?;
        Ok(users
            .into_iter()
            .filter(|(user, _)| !erased.contains(user))
            .map(|(user, likes)| UserActivity {
                user,
                likes: likes as u64,
            })
            .collect())
    }
}
