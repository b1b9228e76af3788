//! Serving from tables of the application that have other names than ours.
//!
//! SQLite runs in this process, so rows are sorted here, whatever type the ids of the application
//! have.

use super::Sqlite;
use super::ids::{SPELLED, Sound, VIDEOS, bytes, interactions, names, spells};
use super::snapshot::{catalogue, each, get, uuid, video};
use crate::snapshot::{Mapping, chooses_from, tidy};
use crate::store::VideoFacts;
use crate::{InteractionKind, Source, StoreError, UserActivity};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use twotower_core::feature::Video;
use uuid::Uuid;

/// A source of which some query reads another table than ours.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) queries: Mapping<String>,
    /// The whole source, including queries of our own tables.
    source: Source,
}

/// Our own videos. One without a time of publication counts from when its row was made.
const OWN_VIDEOS: &str = "
    SELECT id, title, genre, maker, price, coalesce(published_at, created_at) AS published_at FROM videos";

const VIDEO: &str =
    "id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url";

const INTERACTION: &str = "user_id, video_id, created_at";

impl Sqlite {
    /// The same connections, with serving reading from `source`. One row of each query is read, so
    /// that a query with a mistake is an error here and not in every request.
    pub(crate) async fn with_source(&self, source: &Source) -> Result<Self, StoreError> {
        let queries = source.mapping();
        if queries.is_empty() {
            return Ok(Self {
                mapped: None,
                ..self.clone()
            });
        }
        let mut connection = self.pool.acquire().await?;
        if let Some(sql) = &queries.videos {
            let first = |row: &SqliteRow| video(row).map(drop);
            let sound = VIDEOS.sound(sql);
            tried(&mut connection, "videos", VIDEO, &sound, first).await?;
        }
        for (key, sql) in [
            ("video_tags", &queries.video_tags),
            ("video_performers", &queries.video_performers),
        ] {
            if let Some(sql) = sql {
                let first = |row: &SqliteRow| {
                    uuid(row, key, 0)?;
                    get::<&str>(row, key, 1).map(drop)
                };
                let sound = names(key).sound(sql);
                tried(&mut connection, key, "video_id, name", &sound, first).await?;
            }
        }
        for kind in [InteractionKind::Like, InteractionKind::Skip] {
            if let Some(sql) = queries.interactions(kind) {
                let key = kind.table();
                let first = |row: &SqliteRow| {
                    uuid(row, key, 0)?;
                    uuid(row, key, 1)?;
                    get::<i64>(row, key, 2).map(drop)
                };
                let sound = interactions(key).sound(sql);
                tried(&mut connection, key, INTERACTION, &sound, first).await?;
            }
        }
        let source = source.clone();
        Ok(Self {
            mapped: Some(Arc::new(Mapped { queries, source })),
            ..self.clone()
        })
    }

    /// Whether likes or skips are read from another table than ours.
    pub(crate) fn reads_elsewhere(&self, kind: InteractionKind) -> bool {
        self.mapped_interactions(kind)
            .is_some_and(|sql| !chooses_from(sql, kind.table()))
    }

    pub(super) fn mapped_interactions(&self, kind: InteractionKind) -> Option<&str> {
        let mapped = self.mapped.as_ref()?;
        mapped.queries.interactions(kind).map(String::as_str)
    }

    pub(super) fn mapped_videos(&self) -> Option<&str> {
        self.mapped.as_ref()?.queries.videos.as_deref()
    }

    /// The queries, if videos, tags or performers are read from other tables than ours.
    pub(super) fn mapped_catalogue(&self) -> Option<&Mapped> {
        let mapped = self.mapped.as_deref();
        mapped.filter(|mapped| mapped.queries.catalogue())
    }
}

type NamesOf = fn(&mut Video) -> &mut Vec<String>;

impl Mapped {
    /// The facts of every video, ascending by id.
    pub(super) async fn for_each_video_facts(
        &self,
        connection: &mut SqliteConnection,
        each: &mut (dyn FnMut(VideoFacts) + Send),
    ) -> Result<(), StoreError> {
        let videos = self.queries.videos.as_deref().unwrap_or(OWN_VIDEOS);
        // Columns that facts do not have are not kept in memory.
        let source = Source {
            videos: format!(
                "SELECT id, title, NULL AS description, genre, maker, price, NULL AS duration_seconds, published_at, NULL AS thumbnail_url
                 FROM (\n{videos}\n)"
            ),
            ..self.source.clone()
        };
        let Sound { source, .. } = Sound::of(&source);
        let (catalogue, _) = catalogue(connection, &source).await?;
        for video in catalogue.videos() {
            each(video.to_video().into());
        }
        Ok(())
    }

    /// The videos with these ids.
    pub(super) async fn videos_by_id(
        &self,
        connection: &mut SqliteConnection,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Video>, StoreError> {
        let ids = super::videos::json(ids)?;
        let mut videos = HashMap::new();
        let sql = tidy(&self.source.videos);
        let take = |row: &SqliteRow| {
            let video = video(row)?;
            videos.insert(video.id, video);
            Ok(())
        };
        among(connection, VIDEO, sql, "id", &ids, take).await?;
        let source = &self.source;
        let lists: [(&'static str, &str, NamesOf); 2] = [
            ("video_tags", &source.video_tags, |video| &mut video.tags),
            ("video_performers", &source.video_performers, |video| {
                &mut video.performers
            }),
        ];
        for (key, sql, names) in lists {
            let take = |row: &SqliteRow| {
                if let Some(video) = videos.get_mut(&uuid(row, key, 0)?) {
                    names(video).push(get(row, key, 1)?);
                }
                Ok(())
            };
            among(
                connection,
                "video_id, name",
                tidy(sql),
                "video_id",
                &ids,
                take,
            )
            .await?;
        }
        videos.values_mut().for_each(crate::store::sort_names);
        Ok(videos)
    }
}

/// Those of `ids` that a query for videos returns.
pub(super) async fn known(
    connection: &mut SqliteConnection,
    sql: &str,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, StoreError> {
    let mut known = Vec::new();
    let take = |row: &SqliteRow| {
        known.push(uuid(row, "videos", 0)?);
        Ok(())
    };
    let ids = super::videos::json(ids)?;
    among(connection, "id", sql, "id", &ids, take).await?;
    Ok(known)
}

/// `id` as 16 bytes, `maker` and time of publication of each video that a query returns, once each.
pub(super) fn each_once(sql: &str) -> String {
    format!(
        "SELECT {} AS id, min(maker) AS maker, min(published_at) AS published
         FROM (\n{sql}\n) WHERE id IS NOT NULL AND {} GROUP BY 1",
        bytes("id"),
        spells("id")
    )
}

/// The videos that a user has liked or skipped, oldest first. Of two rows for one video the earlier
/// counts, as in training.
pub(super) async fn done_by(
    connection: &mut SqliteConnection,
    kind: InteractionKind,
    sql: &str,
    user: Uuid,
) -> Result<Vec<Uuid>, StoreError> {
    let table = kind.table();
    let mut earliest = BTreeMap::<Uuid, i64>::new();
    let take = |row: &SqliteRow| {
        let (video, at_us) = (uuid(row, table, 1)?, get(row, table, 2)?);
        let earliest = earliest.entry(video).or_insert(at_us);
        *earliest = at_us.min(*earliest);
        Ok(())
    };
    let ids = super::videos::json(&[user])?;
    // The user's id keeps its type, so that an index over it is used.
    let sql = format!(
        "SELECT user_id, {} AS video_id, created_at FROM (\n{sql}\n) WHERE {} AND {}",
        bytes("video_id"),
        spells("video_id"),
        interactions(table).time()
    );
    among(connection, INTERACTION, &sql, "user_id", &ids, take).await?;
    let mut done: Vec<(i64, Uuid)> = earliest.into_iter().map(|(id, at)| (at, id)).collect();
    done.sort_unstable();
    Ok(done.into_iter().map(|(_, video)| video).collect())
}

/// Number of users who like each video.
pub(super) async fn like_counts(
    connection: &mut SqliteConnection,
    sql: &str,
) -> Result<Vec<(Uuid, u64)>, StoreError> {
    let mut counts = HashMap::<Uuid, i64>::new();
    let query = format!(
        "SELECT count(DISTINCT user_id) AS likes, video_id FROM (\n{}\n) WHERE video_id IS NOT NULL GROUP BY video_id",
        interactions("likes").sound(sql)
    );
    each(connection, "likes, video_id", &query, |row| {
        *counts.entry(uuid(row, "likes", 1)?).or_default() += get::<i64>(row, "likes", 0)?;
        Ok::<_, StoreError>(())
    })
    .await?;
    Ok(counts
        .into_iter()
        .map(|(id, likes)| (id, likes as u64))
        .collect())
}

/// The users with the most likes.
pub(super) async fn active_users(
    connection: &mut SqliteConnection,
    sql: &str,
    limit: u32,
) -> Result<Vec<UserActivity>, StoreError> {
    let mut users = Vec::new();
    let query = format!(
        "SELECT user_id, count(DISTINCT video_id) AS likes FROM (\n{}\n) WHERE user_id IS NOT NULL
         GROUP BY user_id ORDER BY likes DESC, user_id LIMIT {limit}",
        interactions("likes").sound(sql)
    );
    each(connection, "user_id, likes", &query, |row| {
        users.push(UserActivity {
            user: uuid(row, "likes", 0)?,
            likes: get::<i64>(row, "likes", 1)? as u64,
        });
        Ok::<_, StoreError>(())
    })
    .await?;
    Ok(users)
}

/// Reads the first row of a query, if there is one.
async fn tried(
    connection: &mut SqliteConnection,
    key: &'static str,
    columns: &'static str,
    sql: &str,
    first: impl FnMut(&SqliteRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let query = format!("SELECT * FROM (\n{sql}\n) LIMIT 1");
    let tried = each(connection, columns, &query, first).await;
    tried.map_err(|error| error.of_source(key))
}

/// Runs a query of the source for the rows whose `column` is among `ids`, a JSON list.
async fn among(
    connection: &mut SqliteConnection,
    columns: &'static str,
    sql: &str,
    column: &'static str,
    ids: &str,
    mut take: impl FnMut(&SqliteRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // It contains the operator's SQL from the configuration.
    let statement = AssertSqlSafe(format!(
        "SELECT {columns} FROM (\n{sql}\n) WHERE {column} IN ({SPELLED})"
    ));
    let mut rows = sqlx::query(statement)
        .persistent(false)
        .bind(ids)
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        take(&row)?;
    }
    Ok(())
}
