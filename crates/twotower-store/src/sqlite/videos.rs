use super::{CHUNK, Sqlite, now_us};
use crate::store::{as_seen, changes, chunks, known_time, sort_names};
use crate::{StoreError, VideoColumn, VideoColumns, VideosWritten};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;
use twotower_core::feature::Video;
use uuid::Uuid;

/// Columns that are not named in `?3` keep their value.
const UPSERT: &str = "
    INSERT INTO videos (id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url, created_at)
    SELECT unhex(value ->> 'id', '-'), value ->> 'title', value ->> 'description', value ->> 'genre', value ->> 'maker',
           value ->> 'price', value ->> 'duration_seconds', value ->> 'published_at_us', value ->> 'thumbnail_url', ?2
    FROM json_each(?1) WHERE true
    ON CONFLICT (id) DO UPDATE SET
        title = iif('title' IN (SELECT value FROM json_each(?3)), excluded.title, title),
        description = iif('description' IN (SELECT value FROM json_each(?3)), excluded.description, description),
        genre = iif('genre' IN (SELECT value FROM json_each(?3)), excluded.genre, genre),
        maker = iif('maker' IN (SELECT value FROM json_each(?3)), excluded.maker, maker),
        price = iif('price' IN (SELECT value FROM json_each(?3)), excluded.price, price),
        duration_seconds = iif('duration_seconds' IN (SELECT value FROM json_each(?3)), excluded.duration_seconds, duration_seconds),
        published_at = iif('published_at' IN (SELECT value FROM json_each(?3)), excluded.published_at, published_at),
        thumbnail_url = iif('thumbnail_url' IN (SELECT value FROM json_each(?3)), excluded.thumbnail_url, thumbnail_url)";

/// Replaces the tags of the videos in `?1`.
const TAGS: [&str; 3] = [
    "INSERT INTO tags (name) SELECT name.value FROM json_each(?1) AS video, json_each(video.value, '$.tags') AS name
     WHERE true ON CONFLICT DO NOTHING",
    "DELETE FROM video_tags WHERE video_id IN (SELECT unhex(value ->> 'id', '-') FROM json_each(?1))",
    "INSERT INTO video_tags (video_id, tag_id) SELECT unhex(video.value ->> 'id', '-'), tags.id
     FROM json_each(?1) AS video, json_each(video.value, '$.tags') AS name JOIN tags ON tags.name = name.value",
];

/// Replaces their performers.
const PERFORMERS: [&str; 3] = [
    "INSERT INTO performers (name) SELECT name.value FROM json_each(?1) AS video, json_each(video.value, '$.performers') AS name
     WHERE true ON CONFLICT DO NOTHING",
    "DELETE FROM video_performers WHERE video_id IN (SELECT unhex(value ->> 'id', '-') FROM json_each(?1))",
    "INSERT INTO video_performers (video_id, performer_id) SELECT unhex(video.value ->> 'id', '-'), performers.id
     FROM json_each(?1) AS video, json_each(video.value, '$.performers') AS name
     JOIN performers ON performers.name = name.value",
];

impl Sqlite {
    pub(crate) async fn write_videos(
        &self,
        columns: VideoColumns,
        videos: &[Video],
    ) -> Result<VideosWritten, StoreError> {
        let names = json(&columns.names())?;
        let tags = columns.contains(VideoColumn::Tags).then_some(TAGS);
        let performers = columns
            .contains(VideoColumn::Performers)
            .then_some(PERFORMERS);
        let mut transaction = self.write().await?;
        let mut written = VideosWritten::default();
        for chunk in chunks(videos, CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|video| video.id).collect();
            let (changed, part) = changes(chunk, columns, &by_id(&mut transaction, &ids).await?);
            written.inserted += part.inserted;
            written.updated += part.updated;
            let rows = json(&changed)?;
            sqlx::query(UPSERT)
                .bind(&rows)
                .bind(now_us())
                .bind(&names)
                .execute(&mut *transaction)
                .await?;
            for statement in [tags, performers].into_iter().flatten().flatten() {
                sqlx::query(statement)
                    .bind(&rows)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(written)
    }

    pub(crate) async fn videos_by_id(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Video>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let mut videos = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            videos.extend(match self.mapped_catalogue() {
                Some(mapped) => mapped.videos_by_id(&mut transaction, chunk).await?,
                None => by_id(&mut transaction, chunk).await?,
            });
        }
        as_seen(videos)
    }

    pub(crate) async fn video_titles(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        Ok(sqlx::query_as("SELECT id, title FROM videos ORDER BY id")
            .fetch_all(&self.pool)
            .await?)
    }
}

/// The stored videos, with which [`changes`] compares. Also corrections of text that models do not
/// see count as changes.
async fn by_id(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Video>, StoreError> {
    let ids = json(ids)?;
    let mut videos = HashMap::new();
    let mut rows = sqlx::query(
        "SELECT id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url
         FROM videos WHERE id IN (SELECT unhex(value, '-') FROM json_each(?1))",
    )
    .bind(&ids)
    .fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let video = video(&row)?;
        videos.insert(video.id, video);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, (Uuid, String)>(
        "SELECT video_id, name FROM video_tags JOIN tags ON id = tag_id
         WHERE video_id IN (SELECT unhex(value, '-') FROM json_each(?1))",
    )
    .bind(&ids)
    .fetch(&mut *connection);
    while let Some((id, name)) = rows.try_next().await? {
        if let Some(video) = videos.get_mut(&id) {
            video.tags.push(name);
        }
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, (Uuid, String)>(
        "SELECT video_id, name FROM video_performers JOIN performers ON id = performer_id
         WHERE video_id IN (SELECT unhex(value, '-') FROM json_each(?1))",
    )
    .bind(&ids)
    .fetch(connection);
    while let Some((id, name)) = rows.try_next().await? {
        if let Some(video) = videos.get_mut(&id) {
            video.performers.push(name);
        }
    }
    videos.values_mut().for_each(sort_names);
    Ok(videos)
}

/// A row of our own table, in the order of its columns.
fn video(row: &SqliteRow) -> Result<Video, sqlx::Error> {
    Ok(Video {
        id: row.try_get(0)?,
        title: row.try_get(1)?,
        description: row.try_get(2)?,
        genre: row.try_get(3)?,
        maker: row.try_get(4)?,
        price: row.try_get(5)?,
        duration_seconds: row.try_get(6)?,
        published_at_us: row.try_get::<Option<i64>, _>(7)?.and_then(known_time),
        thumbnail_url: row.try_get(8)?,
        ..Video::default()
    })
}

pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))
}
