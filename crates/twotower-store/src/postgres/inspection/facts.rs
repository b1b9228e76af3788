//! Statistics of the tables' contents.

use super::super::ids::{self, Sound};
use super::super::session::{query, query_as, query_scalar};
use super::super::snapshot::interactions;
use super::super::{Postgres, Session};
use crate::inspection::{
    Completeness, DataFacts, DimensionSample, Generation, IndexUse, LikeCoverage, Reaction,
};
use crate::{Source, StoreError, VectorTable};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row};

/// Version, dimension, and three ages.
type GenerationRow = (i64, i64, i64, Option<i64>, Option<i64>);

/// An update recomputes rows with the fingerprint 0, so its own rows are among the latest. If none
/// is among the latest million, no update has run for a while.
const GENERATION: &str = "
    SELECT model.version, model.embedding_dim::bigint,
           (extract(epoch FROM now() - coalesce(model.activated_at, model.created_at)) * 1000000)::bigint,
           (extract(epoch FROM now() - (
               SELECT max(updated_at) FROM public.video_embeddings
               WHERE model_version = model.version AND updated_at <= now())) * 1000000)::bigint,
           (extract(epoch FROM now() - (
               SELECT updated_at FROM (
                   SELECT updated_at, fingerprint FROM public.user_embeddings
                   WHERE model_version = model.version AND updated_at <= now() ORDER BY updated_at DESC LIMIT 1000000
               ) AS latest WHERE fingerprint <> 0 ORDER BY updated_at DESC LIMIT 1)) * 1000000)::bigint
    FROM twotower.active_model JOIN twotower.models AS model USING (version)";

/// Counts for [`Reaction`], by the first impression of each video. Looks back four more weeks, so
/// that a video shown earlier is not counted as first shown. A like can be dated before its
/// impression if a clock is behind.
const REACTIONS: &str = "
    SELECT count(*) FILTER (WHERE recent), count(*) FILTER (WHERE recent AND liked),
           count(*) FILTER (WHERE NOT recent), count(*) FILTER (WHERE NOT recent AND liked)
    FROM (
        SELECT user_id, shown_at >= now() - interval '192 hours' AS recent,
               coalesce(liked_at BETWEEN shown_at - interval '24 hours' AND shown_at + interval '24 hours', false) AS liked
        FROM (
            SELECT user_id, min(at) FILTER (WHERE kind = 'impression') AS shown_at,
                   min(at) FILTER (WHERE kind = 'like') AS liked_at
            FROM twotower.events WHERE at >= now() - interval '1536 hours' AND kind IN ('impression', 'like')
            GROUP BY user_id, video_id
        ) AS pairs WHERE shown_at >= now() - interval '864 hours' AND shown_at < now() - interval '24 hours'
    ) AS counted GROUP BY user_id";

impl Postgres {
    pub(crate) async fn index_use(
        &self,
        version: i64,
        dim: usize,
    ) -> Result<Option<IndexUse>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let rows: i64 =
            query_scalar("SELECT count(*) FROM public.video_embeddings WHERE model_version = $1")
                .bind(version)
                .fetch_one(&mut *session)
                .await?;
        let valid: Option<bool> = query_scalar(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.video_embeddings_hnsw_' || $1::bigint)",
        )
        .bind(version)
        .fetch_optional(&mut *session)
        .await?;
        let planned = match valid {
            Some(true) => Some(planned(&mut session, version, dim).await?),
            _ => None,
        };
        session.commit().await?;
        Ok(Some(IndexUse {
            rows: rows as u64,
            valid,
            planned,
        }))
    }

    pub(crate) async fn generation(&self) -> Result<Option<Generation>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let row: Option<GenerationRow> = query_as(GENERATION).fetch_optional(&mut *session).await?;
        session.commit().await?;
        Ok(row.map(
            |(version, dim, active_us, videos_us, users_us)| Generation {
                version,
                embedding_dim: dim as usize,
                active_us,
                videos_us,
                users_us,
            },
        ))
    }

    pub(crate) async fn sample_dimensions(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<DimensionSample, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let Some(schema) = Self::vector_schema(&mut session).await? else {
            session.commit().await?;
            return Ok(DimensionSample::default());
        };
        // Contains a name of ours, and one that the server has quoted.
        let statement = format!(
            "SELECT count(*), count(*) FILTER (WHERE dims <> $2), min(dims) FILTER (WHERE dims <> $2) FROM (
                 SELECT {schema}.vector_dims(embedding)::bigint AS dims FROM public.{}
                 WHERE model_version = $1 ORDER BY updated_at DESC LIMIT 1000
             ) AS latest",
            table.table()
        );
        let (rows, wrong, example): (i64, i64, Option<i64>) =
            sqlx::query_as(AssertSqlSafe(statement))
                .persistent(false)
                .bind(version)
                .bind(dim as i64)
                .fetch_one(&mut *session)
                .await?;
        session.commit().await?;
        Ok(DimensionSample {
            rows: rows as u64,
            wrong: wrong as u64,
            example,
        })
    }

    pub(crate) async fn data_facts(&self, source: &Source) -> Result<DataFacts, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let Sound { source, .. } = Sound::of(&mut session, source).await?;
        let (videos, likes) = (source.videos, source.likes);
        // Counts what training uses: the earlier of two rows for one user and video, and no row of
        // a missing video. GROUP BY rather than count(DISTINCT), which would sort all rows once
        // more each time. Contains the operator's own SQL, from the configuration; the transaction
        // is read-only.
        let statement = format!(
            "SELECT coalesce(sum(likes), 0)::bigint, coalesce(sum(recent), 0)::bigint, count(*),
                    (SELECT count(*) FROM (SELECT DISTINCT id::uuid AS id FROM (\n{videos}\n) AS videos) AS known
                     WHERE id IN (SELECT video_id::uuid FROM (\n{likes}\n) AS likes)),
                    (SELECT count(DISTINCT id::uuid) FROM (\n{videos}\n) AS videos)
             FROM (
                 SELECT liked_by, count(*) AS likes, count(*) FILTER (WHERE at > now() - interval '183 days') AS recent FROM (
                     SELECT user_id::uuid AS liked_by, video_id::uuid AS video, min(created_at::timestamptz) AS at
                     FROM (\n{likes}\n) AS likes
                     WHERE video_id::uuid IN (SELECT id::uuid FROM (\n{videos}\n) AS videos) GROUP BY 1, 2
                 ) AS pairs GROUP BY 1
             ) AS users"
        );
        let (likes, recent_likes, users, liked_videos, videos): (i64, i64, i64, i64, i64) =
            sqlx::query_as(AssertSqlSafe(statement))
                .persistent(false)
                .fetch_one(&mut *session)
                .await?;
        session.commit().await?;
        Ok(DataFacts {
            likes: likes as u64,
            recent_likes: recent_likes as u64,
            users: users as u64,
            liked_videos: liked_videos as u64,
            videos: videos as u64,
        })
    }

    pub(crate) async fn completeness(
        &self,
        source: &Source,
        version: i64,
    ) -> Result<Completeness, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let sound = Sound::of(&mut session, source).await?;
        // Contains the operator's own SQL, from the configuration; the transaction is read-only.
        let statement = format!(
            "SELECT count(*), count(*) FILTER (WHERE video_id IS NULL) FROM (\n{}\n) AS videos
             LEFT JOIN public.video_embeddings ON video_id = videos.id::uuid AND model_version = $1",
            sound.source.videos
        );
        let (videos, missing): (i64, i64) = sqlx::query_as(AssertSqlSafe(statement))
            .persistent(false)
            .bind(version)
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        Ok(Completeness {
            videos: videos as u64,
            missing: missing as u64,
        })
    }

    pub(crate) async fn for_each_reaction(
        &self,
        each: &mut (dyn FnMut(Reaction) + Send),
    ) -> Result<(), StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let mut rows = query(REACTIONS).fetch(&mut *session);
        while let Some(row) = rows.try_next().await? {
            let count = |column: usize| row.try_get::<i64, _>(column).map(|count| count as u64);
            each(Reaction {
                recent_shown: count(0)?,
                recent_liked: count(1)?,
                earlier_shown: count(2)?,
                earlier_liked: count(3)?,
            });
        }
        drop(rows);
        session.commit().await
    }

    pub(crate) async fn like_coverage(
        &self,
        source: &Source,
        version: i64,
    ) -> Result<LikeCoverage, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        // Monitoring repeats this query, and an index over the times is used where there is one.
        let likes = ids::open(&mut session, &interactions("likes"), &source.likes).await?;
        let statement = format!(
            "SELECT count(*), count(vectors.video_id) FROM (
                 SELECT video_id::uuid AS liked FROM (\n{likes}\n) AS likes
                 WHERE created_at::timestamptz > now() - interval '7 days' ORDER BY created_at DESC LIMIT 1000
             ) AS latest LEFT JOIN public.video_embeddings AS vectors ON vectors.video_id = liked AND model_version = $1"
        );
        let (likes, known): (i64, i64) = sqlx::query_as(AssertSqlSafe(statement))
            .persistent(false)
            .bind(version)
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        Ok(LikeCoverage {
            likes: likes as u64,
            known: known as u64,
        })
    }
}

/// Whether the planner would use the version's index to find the nearest 100 neighbours of a
/// vector, in the statement that `recommend_videos` runs.
async fn planned(session: &mut Session, version: i64, dim: usize) -> Result<bool, StoreError> {
    let statement: String = query_scalar("SELECT twotower.nearest($1, $2, '')")
        .bind(version)
        .bind(dim as i32)
        .fetch_one(&mut **session)
        .await?;
    let unit = (1.0 / dim as f32).sqrt();
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {statement}")))
        .persistent(false)
        .bind(vec![unit; dim])
        .bind(Vec::<uuid::Uuid>::new())
        .bind(100_i64)
        .fetch_all(&mut **session)
        .await?;
    let index = format!("Index Scan using video_embeddings_hnsw_{version} ");
    Ok(plan.iter().any(|line| line.contains(&index)))
}
