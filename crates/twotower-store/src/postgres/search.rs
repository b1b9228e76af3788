//! Searches every table for an id.

use super::ids::Sound;
use super::session::{query_as, query_scalar};
use super::{Postgres, Session};
use crate::erasure::{SearchedColumn, SearchedRows};
use crate::snapshot::{tidy, whole_table};
use crate::store::BULK_TIMEOUT;
use crate::{Source, StoreError};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

/// A table's name, the counting statement, whether its rows are elsewhere, its columns that may
/// hold an id, and which of these hold video ids.
type Table = (String, String, bool, Vec<String>, Vec<bool>);

const BLOCKS: &str = "public.recommendation_blocks";

/// Cached answers: JSON that includes lists of videos.
const ANSWERS: &str = "public.recommendation_cache";

/// Columns of ours that hold video ids.
const OF_VIDEOS: [(&str, &str); 10] = [
    ("public.videos", "id"),
    ("public.video_tags", "video_id"),
    ("public.video_performers", "video_id"),
    ("public.likes", "video_id"),
    ("public.skips", "video_id"),
    ("public.video_embeddings", "video_id"),
    (ANSWERS, "answer"),
    (BLOCKS, "value"),
    ("twotower.events", "video_id"),
    ("twotower.video_popularity", "video_id"),
];

/// The tables. $1 and $2 are columns of video ids by name, $3 and $4 by number. Columns that refer
/// to one of them count as well, and those of the same name in a table's partitions.
///
/// As text, an id may lack hyphens and have letters of either case; bytes are written as hex
/// digits.
const TABLES: &str = "
    WITH RECURSIVE of_videos (relation, attribute) AS (
        (SELECT attrelid, attnum FROM unnest($1::text[], $2::text[]) AS ours (relation, name)
         JOIN pg_attribute ON attrelid = to_regclass(relation) AND attname = name
         UNION ALL SELECT relation::oid, attribute FROM unnest($3::bigint[], $4::smallint[]) AS theirs (relation, attribute))
        UNION
        SELECT more.* FROM of_videos CROSS JOIN LATERAL (
            SELECT conrelid, conkey[1] FROM pg_constraint WHERE contype = 'f' AND confrelid = relation AND confkey = ARRAY[attribute]
            UNION ALL
            SELECT inner_one.attrelid, inner_one.attnum
            FROM pg_inherits
            JOIN pg_attribute outer_one ON outer_one.attrelid = inhparent AND outer_one.attnum = attribute
            JOIN pg_attribute inner_one ON inner_one.attrelid = inhrelid AND inner_one.attname = outer_one.attname
            WHERE inhparent = relation
        ) AS more
    )
    SELECT nspname || '.' || relname,
           format('SELECT ARRAY[%s] FROM ONLY %I.%I', string_agg(format(
               'count(*) FILTER (WHERE strpos(replace(lower(%I::text), ''-'', ''''), $1) > 0)', attname
           ), ', ' ORDER BY attnum), nspname, relname),
           relkind = 'f', array_agg(attname::text ORDER BY attnum),
           array_agg((attrelid, attnum) IN (SELECT relation, attribute FROM of_videos) ORDER BY attnum)
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = relnamespace
    JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type t ON t.oid = atttypid
    LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE relkind IN ('r', 'm', 'f') AND relpersistence <> 't'
    AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_toast%'
    -- Boolean, date and time, geometric, network, number, interval.
    AND coalesce(e.typcategory, t.typcategory) NOT IN ('B', 'D', 'G', 'I', 'N', 'T')
    AND t.typname NOT IN ('vector', 'halfvec', 'sparsevec')
    GROUP BY nspname, relname, relkind ORDER BY 1";

impl Postgres {
    /// Searches every column of every table and materialized view, except those of numbers, times
    /// and vectors.
    pub(crate) async fn search_rows(
        &self,
        user: Uuid,
        source: &Source,
    ) -> Result<SearchedRows, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let mut rows = SearchedRows {
            is_video: is_video(&mut session, user, source).await?,
            ..SearchedRows::default()
        };
        let theirs = if rows.is_video {
            columns_of_videos(&mut session, source).await?
        } else {
            Vec::new()
        };
        let (relations, attributes): (Vec<i64>, Vec<i16>) = theirs.into_iter().unzip();
        let (ours, columns): (Vec<&str>, Vec<&str>) = OF_VIDEOS.into_iter().unzip();
        let tables: Vec<Table> = query_as(TABLES)
            .bind(ours)
            .bind(columns)
            .bind(relations)
            .bind(attributes)
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        for (name, statement, foreign, columns, of_videos) in tables {
            if foreign {
                let reason = "its rows are in another database".into();
                rows.not_searched.push((name, reason));
                continue;
            }
            let mut session = self.begin_reading(BULK_TIMEOUT).await?;
            match count(&mut session, user, statement).await {
                Ok(counts) => {
                    session.commit().await?;
                    let columns = columns.into_iter().zip(of_videos).zip(counts);
                    let columns = columns.map(|((name, of_videos), rows)| SearchedColumn {
                        name,
                        of_videos,
                        rows,
                    });
                    rows.add(&name, columns);
                }
                // The role may not read the table, or not all of its rows; or the table was dropped
                // meanwhile.
                Err(error @ (StoreError::Permission(_) | StoreError::Schema(_))) => {
                    rows.not_searched.push((name, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(passed) = rows.passed_over(&format!("{BLOCKS}.value")) {
            let mut session = self.begin_reading(BULK_TIMEOUT).await?;
            // Blocks of other kinds than `video` do not hold a video's id.
            let other = query_scalar(
                "SELECT count(*) FROM public.recommendation_blocks
                 WHERE kind <> 'video' AND strpos(replace(lower(value), '-', ''), $1) > 0",
            )
            .bind(user.simple().to_string())
            .fetch_one(&mut *session)
            .await?;
            session.commit().await?;
            rows.found_again(passed, other);
        }
        if let Some(passed) = rows.passed_over(&format!("{ANSWERS}.answer")) {
            let mut session = self.begin_reading(BULK_TIMEOUT).await?;
            // An answer can contain anything. The id is elsewhere in it if it occurs more often
            // than in its list of videos.
            let other = query_scalar(
                "SELECT count(*) FROM (SELECT answer, replace(lower(answer::text), '-', '') AS digits FROM public.recommendation_cache) AS kept
                 WHERE length(digits) - length(replace(digits, $1::text, '')) > length($1) * jsonb_array_length(
                     jsonb_path_query_array(answer, '$.recommendations[*].video_id ? (@ == $id)', jsonb_build_object('id', $2::text))
                 )",
            )
            .bind(user.simple().to_string())
            .bind(user.hyphenated().to_string())
            .fetch_one(&mut *session)
            .await?;
            session.commit().await?;
            rows.found_again(passed, other);
        }
        Ok(rows)
    }
}

/// Whether an id belongs to a video of the catalogue, or to one with a vector.
async fn is_video(session: &mut Session, id: Uuid, source: &Source) -> Result<bool, StoreError> {
    let has_vector: bool =
        query_scalar("SELECT EXISTS (SELECT FROM public.video_embeddings WHERE video_id = $1)")
            .bind(id)
            .fetch_one(&mut **session)
            .await?;
    let Sound { source, .. } = Sound::of(session, source).await?;
    let videos = tidy(&source.videos);
    // Contains the operator's own SQL, from the configuration; the transaction is read-only.
    let statement =
        format!("SELECT EXISTS (SELECT FROM (\n{videos}\n) AS videos WHERE id::uuid = $1)");
    let known: bool = sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(id)
        .fetch_one(&mut **session)
        .await
        .map_err(|error| StoreError::from(error).of_source("videos"))?;
    Ok(has_vector || known)
}

/// Columns from which the source takes video ids unchanged: table and column number.
///
/// Only of tables that it reads in full: in skipped rows, for example of another kind, a column may
/// hold ids of users.
async fn columns_of_videos(
    session: &mut Session,
    source: &Source,
) -> Result<Vec<(i64, i16)>, StoreError> {
    let performers = &source.video_performers;
    let queries = [
        ("videos", "id", &source.videos),
        ("video_tags", "video_id", &source.video_tags),
        ("video_performers", "video_id", performers),
        ("likes", "video_id", &source.likes),
        ("skips", "video_id", &source.skips),
    ];
    let mut columns = Vec::new();
    let queries = queries
        .into_iter()
        .filter(|(_, _, sql)| whole_table(sql).is_some());
    for (query, column, sql) in queries {
        let sql = tidy(sql);
        // The operator's own SQL, from the configuration. The transaction is read-only, and a
        // prepared statement is a single one.
        let statement = format!(
            "SELECT source.{column} FROM (VALUES (1)) AS one LEFT JOIN (\n{sql}\n) AS source ON false"
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .persistent(false)
            .fetch_one(&mut **session)
            .await
            .map_err(|error| StoreError::from(error).of_source(query))?;
        let origin = row.columns().first().and_then(|column| {
            let relation = column.relation_id()?;
            Some((i64::from(relation.0), column.relation_attribute_no()?))
        });
        columns.extend(origin);
    }
    Ok(columns)
}

async fn count(
    session: &mut Session,
    user: Uuid,
    statement: String,
) -> Result<Vec<i64>, StoreError> {
    // Rows hidden by a policy are an error rather than missing.
    sqlx::raw_sql("SET LOCAL row_security = off; SET LOCAL bytea_output = hex")
        .execute(&mut **session)
        .await?;
    // The server has written the statement, and quoted its names.
    Ok(sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(user.simple().to_string())
        .fetch_one(&mut **session)
        .await?)
}
