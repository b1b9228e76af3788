use super::{CHUNK, Sqlite, now_us};
use crate::store::changes;
use crate::{StoreError, VideosWritten};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;
use twotower_core::feature::{CatalogueBuilder, Video, VideoRef};
use uuid::Uuid;

const UPSERT: &str = "
    INSERT INTO videos (id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url, created_at)
    SELECT unhex(value ->> 'id', '-'), value ->> 'title', value ->> 'description', value ->> 'genre', value ->> 'maker',
           value ->> 'price', value ->> 'duration_seconds', value ->> 'published_at_us', value ->> 'thumbnail_url', ?2
    FROM json_each(?1) WHERE true
    ON CONFLICT (id) DO UPDATE SET
        title = excluded.title, description = excluded.description, genre = excluded.genre, maker = excluded.maker,
        price = excluded.price, duration_seconds = excluded.duration_seconds,
        published_at = excluded.published_at, thumbnail_url = excluded.thumbnail_url";

/// Replaces the tags and performers of the videos in `?1`.
const TERMS: [&str; 6] = [
    "INSERT INTO tags (name) SELECT name.value FROM json_each(?1) AS video, json_each(video.value, '$.tags') AS name
     WHERE true ON CONFLICT DO NOTHING",
    "DELETE FROM video_tags WHERE video_id IN (SELECT unhex(value ->> 'id', '-') FROM json_each(?1))",
    "INSERT INTO video_tags (video_id, tag_id) SELECT unhex(video.value ->> 'id', '-'), tags.id
     FROM json_each(?1) AS video, json_each(video.value, '$.tags') AS name JOIN tags ON tags.name = name.value",
    "INSERT INTO performers (name) SELECT name.value FROM json_each(?1) AS video, json_each(video.value, '$.performers') AS name
     WHERE true ON CONFLICT DO NOTHING",
    "DELETE FROM video_performers WHERE video_id IN (SELECT unhex(value ->> 'id', '-') FROM json_each(?1))",
    "INSERT INTO video_performers (video_id, performer_id) SELECT unhex(video.value ->> 'id', '-'), performers.id
     FROM json_each(?1) AS video, json_each(video.value, '$.performers') AS name
     JOIN performers ON performers.name = name.value",
];

impl Sqlite {
    pub(crate) async fn write_videos(&self, videos: &[Video]) -> Result<VideosWritten, StoreError> {
        let mut transaction = self.write().await?;
        let mut written = VideosWritten::default();
        for chunk in videos.chunks(CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|video| video.id).collect();
            let (changed, part) = changes(chunk, &by_id(&mut transaction, &ids).await?);
            written.inserted += part.inserted;
            written.updated += part.updated;
            let rows = json(&changed)?;
            sqlx::query(UPSERT)
                .bind(&rows)
                .bind(now_us())
                .execute(&mut *transaction)
                .await?;
            for statement in TERMS {
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
            videos.extend(by_id(&mut transaction, chunk).await?);
        }
        Ok(videos)
    }

    pub(crate) async fn video_titles(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        Ok(sqlx::query_as("SELECT id, title FROM videos ORDER BY id")
            .fetch_all(&self.pool)
            .await?)
    }
}

async fn by_id(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Video>, StoreError> {
    let ids = json(ids)?;
    let mut catalogue = CatalogueBuilder::default();
    let mut rows = sqlx::query(
        "SELECT id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url
         FROM videos WHERE id IN (SELECT unhex(value, '-') FROM json_each(?1))",
    )
    .bind(&ids)
    .fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        catalogue.video(&video(&row)?);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, (Uuid, String)>(
        "SELECT video_id, name FROM video_tags JOIN tags ON id = tag_id
         WHERE video_id IN (SELECT unhex(value, '-') FROM json_each(?1))",
    )
    .bind(&ids)
    .fetch(&mut *connection);
    while let Some((id, name)) = rows.try_next().await? {
        catalogue.tag(id, &name);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, (Uuid, String)>(
        "SELECT video_id, name FROM video_performers JOIN performers ON id = performer_id
         WHERE video_id IN (SELECT unhex(value, '-') FROM json_each(?1))",
    )
    .bind(&ids)
    .fetch(connection);
    while let Some((id, name)) = rows.try_next().await? {
        catalogue.performer(id, &name);
    }
    let catalogue = catalogue.finish()?;
    let videos = catalogue.videos().map(VideoRef::to_video);
    Ok(videos.map(|video| (video.id, video)).collect())
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
        published_at_us: row.try_get(7)?,
        thumbnail_url: row.try_get(8)?,
        ..Video::default()
    })
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Database(sqlx::Error::Encode(error.into())))
}
