//! Searches every table for an id.

use super::Sqlite;
use super::ids::Sound;
use crate::erasure::{SearchedColumn, SearchedRows};
use crate::snapshot::{tidy, whole_table};
use crate::{Source, StoreError};
use sqlx::{
    AssertSqlSafe, Column, Executor, Row, SqlSafeStr, SqliteConnection, Statement,
    sqlite::SqliteColumn,
};
use std::collections::BTreeSet;
use uuid::Uuid;

const BLOCKS: &str = "recommendation_blocks";

/// Columns of ours that hold video ids.
const OF_VIDEOS: [(&str, &str); 8] = [
    ("videos", "id"),
    ("video_tags", "video_id"),
    ("video_performers", "video_id"),
    ("likes", "video_id"),
    ("skips", "video_id"),
    ("video_embeddings", "video_id"),
    (BLOCKS, "value"),
    ("twotower_events", "video_id"),
];

/// The tables, their columns, and a counting statement. Bytes are searched as hex digits and, like
/// text, as characters.
const TABLES: &str = "
    SELECT tables.name, json_group_array(columns.name ORDER BY cid),
           'SELECT ' || group_concat(format(
               'count(*) FILTER (WHERE instr(replace(upper(CAST(\"%w\" AS TEXT)), ''-'', ''''), ?1)
                                 OR (typeof(\"%w\") = ''blob'' AND instr(hex(\"%w\"), ?1)))',
               columns.name, columns.name, columns.name
           ), ', ' ORDER BY cid) || format(' FROM \"%w\"', tables.name)
    FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' GROUP BY tables.name ORDER BY tables.name";

impl Sqlite {
    /// Searches every column of every table, whatever its declared type.
    pub(crate) async fn search_rows(
        &self,
        user: Uuid,
        source: &Source,
    ) -> Result<SearchedRows, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let mut rows = SearchedRows {
            is_video: is_video(&mut transaction, user, source).await?,
            ..SearchedRows::default()
        };
        let of_videos = if rows.is_video {
            columns_of_videos(&mut transaction, source).await?
        } else {
            BTreeSet::new()
        };
        let tables: Vec<(String, String, String)> =
            sqlx::query_as(TABLES).fetch_all(&mut *transaction).await?;
        let digits = user.simple().to_string().to_uppercase();
        for (table, columns, statement) in tables {
            let columns: Vec<String> =
                serde_json::from_str(&columns).map_err(|error| StoreError::Row {
                    query: "sqlite_master",
                    column: "name",
                    reason: error.to_string(),
                })?;
            // SQLite has written the statement, and quoted its names.
            let row = sqlx::query(AssertSqlSafe(statement))
                .persistent(false)
                .bind(&digits)
                .fetch_one(&mut *transaction)
                .await?;
            let counts: Vec<i64> = (0..columns.len())
                .map(|column| row.try_get(column))
                .collect::<Result<_, _>>()?;
            let columns = columns
                .into_iter()
                .zip(counts)
                .map(|(name, rows)| SearchedColumn {
                    of_videos: of_videos.contains(&(table.clone(), name.clone())),
                    name,
                    rows,
                });
            rows.add(&table, columns);
        }
        if let Some(passed) = rows.passed_over(&format!("{BLOCKS}.value")) {
            // Blocks of other kinds than `video` do not hold a video's id.
            let other = sqlx::query_scalar(
                "SELECT count(*) FROM recommendation_blocks WHERE kind <> 'video' AND instr(replace(upper(value), '-', ''), ?1)",
            )
            .bind(&digits)
            .fetch_one(&mut *transaction)
            .await?;
            rows.found_again(passed, other);
        }
        Ok(rows)
    }
}

/// Whether an id belongs to a video of the catalogue, or to one with a vector.
async fn is_video(
    connection: &mut SqliteConnection,
    id: Uuid,
    source: &Source,
) -> Result<bool, StoreError> {
    let Sound { source, .. } = Sound::of(source);
    let videos = tidy(&source.videos);
    // Contains the operator's own SQL, from the configuration.
    let statement = format!(
        "SELECT EXISTS (SELECT 1 FROM video_embeddings WHERE video_id = ?1) OR EXISTS (SELECT 1 FROM (\n{videos}\n) WHERE id = ?1)"
    );
    let known = sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(id)
        .fetch_one(connection)
        .await;
    known.map_err(|error| StoreError::from(error).of_source("videos"))
}

/// Table and name of the columns that hold video ids: our own, those that the source passes on
/// unchanged, and those that refer to one of them.
///
/// Of the source's tables only those that it reads in full: in skipped rows, for example of another
/// kind, a column may hold ids of users.
async fn columns_of_videos(
    connection: &mut SqliteConnection,
    source: &Source,
) -> Result<BTreeSet<(String, String)>, StoreError> {
    let ours = OF_VIDEOS.map(|(table, column)| (table.to_owned(), column.to_owned()));
    let mut columns = BTreeSet::from(ours);
    let performers = &source.video_performers;
    let queries = [
        ("videos", "id", &source.videos),
        ("video_tags", "video_id", &source.video_tags),
        ("video_performers", "video_id", performers),
        ("likes", "video_id", &source.likes),
        ("skips", "video_id", &source.skips),
    ];
    for (query, column, sql) in queries {
        let Some(whole) = whole_table(sql) else {
            continue;
        };
        // The operator's own SQL, from the configuration.
        let statement = AssertSqlSafe(format!("SELECT {column} FROM (\n{}\n)", tidy(sql)));
        let tried = connection.prepare(statement.into_sql_str()).await;
        let tried = tried.map_err(|error| StoreError::from(error).of_source(query))?;
        let origin = tried.columns().first().and_then(origin);
        // For a view, SQLite reports the underlying table, which may have other rows.
        let whole = whole.strip_prefix("main.").unwrap_or(&whole);
        columns.extend(origin.filter(|(table, _)| table.eq_ignore_ascii_case(whole)));
    }
    let references: Vec<(String, String, String, Option<String>)> = sqlx::query_as(
        "SELECT tables.name, keys.\"from\", keys.\"table\", keys.\"to\"
         FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name) AS keys WHERE tables.type = 'table'",
    )
    .fetch_all(connection)
    .await?;
    // Repeated, since a column may refer to one that is itself a reference.
    let mut before = 0;
    while columns.len() > before {
        before = columns.len();
        for (table, from, of, to) in &references {
            // Without a column name it refers to the table's primary key.
            let to = to.clone().unwrap_or_else(|| "id".into());
            if columns.contains(&(of.clone(), to)) {
                columns.insert((table.clone(), from.clone()));
            }
        }
    }
    Ok(columns)
}

/// Origin of a column that is passed on unchanged.
fn origin(column: &SqliteColumn) -> Option<(String, String)> {
    let origin = column.origin();
    let origin = origin.table_column()?;
    let table = origin.table.strip_prefix("main.").unwrap_or(&origin.table);
    Some((table.to_owned(), origin.name.to_string()))
}
