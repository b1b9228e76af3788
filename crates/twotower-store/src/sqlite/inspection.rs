//! Statistics of the tables' contents. There is no server to report on, and no roles.

use super::ids::Sound;
use super::{Sqlite, now_us};
use crate::inspection::{
    Completeness, DataFacts, DimensionSample, Fault, Generation, IndexUse, LikeCoverage, Pooler,
    Reaction, SchemaAudit, ServerFacts, TableStatistics,
};
use crate::snapshot::tidy;
use crate::{SchemaObject, Source, StoreError, VectorTable};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow, Row};
use twotower_core::time::DAY_US;

/// Version, dimension, and three ages.
type GenerationRow = (i64, i64, i64, Option<i64>, Option<i64>);

const GENERATION: &str = "
    SELECT model.version, model.embedding_dim, coalesce(model.activated_at, model.created_at),
           (SELECT max(updated_at) FROM video_embeddings WHERE model_version = model.version AND updated_at <= ?1),
           (SELECT max(updated_at) FROM user_embeddings
            WHERE model_version = model.version AND updated_at <= ?1 AND fingerprint <> 0)
    FROM twotower_active_model JOIN twotower_models AS model USING (version)";

/// Counts for [`Reaction`], by the first impression of each video. Looks back four more weeks, so
/// that a video shown earlier is not counted as first shown. A like can be dated before its
/// impression if a clock is behind. The times are 1, 8, 36 and 64 days ago.
const REACTIONS: &str = "
    SELECT sum(recent), sum(recent AND liked), sum(NOT recent), sum(NOT recent AND liked)
    FROM (
        SELECT user_id, shown_at >= ?2 AS recent, coalesce(abs(liked_at - shown_at) <= 86400000000, 0) AS liked
        FROM (
            SELECT user_id, min(CASE WHEN kind = 'impression' THEN at END) AS shown_at,
                   min(CASE WHEN kind = 'like' THEN at END) AS liked_at
            FROM twotower_events WHERE at >= ?4 AND kind IN ('impression', 'like') GROUP BY user_id, video_id
        ) WHERE shown_at >= ?3 AND shown_at < ?1
    ) GROUP BY user_id";

#[expect(clippy::unused_async, reason = "the other engine has work to do")]
impl Sqlite {
    pub(crate) async fn server_facts(&self) -> Result<Option<ServerFacts>, StoreError> {
        Ok(None)
    }

    pub(crate) async fn pooler(&self) -> Result<Option<Pooler>, StoreError> {
        Ok(None)
    }

    pub(crate) async fn make_again(&self, _: &[SchemaObject]) -> Result<Option<()>, StoreError> {
        Ok(None)
    }

    pub(crate) async fn audit_schema(&self, _: &Source) -> Result<Option<SchemaAudit>, StoreError> {
        Ok(None)
    }

    pub(crate) async fn unindexed_reads(
        &self,
        _: &Source,
    ) -> Result<Option<Vec<Fault>>, StoreError> {
        Ok(None)
    }

    pub(crate) async fn index_use(
        &self,
        _version: i64,
        _dim: usize,
    ) -> Result<Option<IndexUse>, StoreError> {
        Ok(None)
    }

    pub(crate) async fn table_statistics(&self) -> Result<Vec<TableStatistics>, StoreError> {
        Ok(Vec::new())
    }
}

impl Sqlite {
    pub(crate) async fn generation(&self) -> Result<Option<Generation>, StoreError> {
        let now = now_us();
        let row: Option<GenerationRow> = sqlx::query_as(GENERATION)
            .bind(now)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(version, dim, active, videos, users)| Generation {
            version,
            embedding_dim: dim as usize,
            active_us: now - active,
            videos_us: videos.map(|at| now - at),
            users_us: users.map(|at| now - at),
        }))
    }

    pub(crate) async fn sample_dimensions(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<DimensionSample, StoreError> {
        // Contains a name of ours.
        let statement = format!(
            "SELECT count(*), coalesce(sum(dims <> ?2), 0), min(CASE WHEN dims <> ?2 THEN dims END) FROM (
                 SELECT length(embedding) / 4 AS dims FROM {} WHERE model_version = ?1 ORDER BY updated_at DESC LIMIT 1000
             )",
            table.table()
        );
        let (rows, wrong, example): (i64, i64, Option<i64>) =
            sqlx::query_as(AssertSqlSafe(statement))
                .bind(version)
                .bind(dim as i64)
                .fetch_one(&self.pool)
                .await?;
        Ok(DimensionSample {
            rows: rows as u64,
            wrong: wrong as u64,
            example,
        })
    }

    pub(crate) async fn data_facts(&self, source: &Source) -> Result<DataFacts, StoreError> {
        let elsewhere = source.mapping();
        let Sound { source, .. } = Sound::of(source);
        let (videos, likes) = (tidy(&source.videos), tidy(&source.likes));
        // Counts what training uses. Our own tables have each like once, and only of existing
        // videos. Of two rows in other tables the earlier counts.
        let likes = if elsewhere.videos.is_none() && elsewhere.likes.is_none() {
            likes.to_owned()
        } else {
            format!(
                "SELECT user_id, video_id, min(created_at) AS created_at FROM (\n{likes}\n)
                 WHERE video_id IN (SELECT id FROM (\n{videos}\n)) GROUP BY user_id, video_id"
            )
        };
        let statement = format!(
            "SELECT likes.*, (SELECT count(DISTINCT id) FROM (\n{videos}\n)) FROM (
                 SELECT count(*), coalesce(sum(created_at > ?1), 0), count(DISTINCT user_id), count(DISTINCT video_id) FROM (\n{likes}\n)
             ) AS likes"
        );
        let since = now_us() - 183 * DAY_US;
        let (likes, recent_likes, users, liked_videos, videos): (i64, i64, i64, i64, i64) =
            self.read_source(statement, &[since]).await?;
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
        let Sound { source, .. } = Sound::of(source);
        let statement = format!(
            "SELECT count(*), coalesce(sum(video_id IS NULL), 0) FROM (\n{}\n) AS videos
             LEFT JOIN video_embeddings ON video_id = videos.id AND model_version = ?1",
            tidy(&source.videos)
        );
        let (videos, missing): (i64, i64) = self.read_source(statement, &[version]).await?;
        Ok(Completeness {
            videos: videos as u64,
            missing: missing as u64,
        })
    }

    pub(crate) async fn for_each_reaction(
        &self,
        each: &mut (dyn FnMut(Reaction) + Send),
    ) -> Result<(), StoreError> {
        let now = now_us();
        let mut rows = sqlx::query(REACTIONS)
            .bind(now - DAY_US)
            .bind(now - 8 * DAY_US)
            .bind(now - 36 * DAY_US)
            .bind(now - 64 * DAY_US)
            .fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            let count = |column: usize| row.try_get::<i64, _>(column).map(|count| count as u64);
            each(Reaction {
                recent_shown: count(0)?,
                recent_liked: count(1)?,
                earlier_shown: count(2)?,
                earlier_liked: count(3)?,
            });
        }
        Ok(())
    }

    pub(crate) async fn like_coverage(
        &self,
        source: &Source,
        version: i64,
    ) -> Result<LikeCoverage, StoreError> {
        let Sound { source, .. } = Sound::of(source);
        let statement = format!(
            "SELECT count(*), count(vectors.video_id) FROM (
                 SELECT video_id AS liked FROM (\n{}\n) WHERE created_at > ?2 ORDER BY created_at DESC LIMIT 1000
             ) LEFT JOIN video_embeddings AS vectors ON vectors.video_id = liked AND model_version = ?1",
            tidy(&source.likes)
        );
        let since = now_us() - 7 * DAY_US;
        let (likes, known): (i64, i64) = self.read_source(statement, &[version, since]).await?;
        Ok(LikeCoverage {
            likes: likes as u64,
            known: known as u64,
        })
    }

    /// Runs a statement that contains queries of the source: the operator's own SQL, from the
    /// configuration.
    async fn read_source<T>(&self, statement: String, numbers: &[i64]) -> Result<T, StoreError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let mut statement = sqlx::query_as(AssertSqlSafe(statement));
        for number in numbers {
            statement = statement.bind(number);
        }
        Ok(statement.fetch_one(&self.pool).await?)
    }
}
