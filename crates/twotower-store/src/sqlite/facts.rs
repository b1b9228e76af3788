use super::Sqlite;
use crate::StoreError;
use crate::store::{VideoFacts, add_name, tidy_facts};
use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

/// Videos held in memory at a time.
const PAGE: i64 = 5_000;

const VIDEOS: &str = "
    SELECT id, title, genre, maker, price, coalesce(published_at, created_at) FROM videos
    WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2";

const TAGS: &str = "SELECT video_id, name FROM video_tags JOIN tags ON id = tag_id WHERE video_id BETWEEN ?1 AND ?2";

const PERFORMERS: &str = "
    SELECT video_id, name FROM video_performers JOIN performers ON id = performer_id WHERE video_id BETWEEN ?1 AND ?2";

impl Sqlite {
    pub(crate) async fn for_each_video_facts(
        &self,
        each: &mut (dyn FnMut(VideoFacts) + Send),
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        if let Some(mapped) = self.mapped_catalogue() {
            return mapped.for_each_video_facts(&mut transaction, each).await;
        }
        let mut after = None;
        loop {
            let mut videos = page(&mut transaction, after).await?;
            let (Some(first), Some(last)) = (videos.first(), videos.last()) else {
                return Ok(());
            };
            let range = (first.id, last.id);
            after = Some(last.id);
            add_names(&mut transaction, TAGS, range, &mut videos, |video| {
                &mut video.tags
            })
            .await?;
            add_names(&mut transaction, PERFORMERS, range, &mut videos, |video| {
                &mut video.performers
            })
            .await?;
            tidy_facts(&mut videos);
            videos.into_iter().for_each(&mut *each);
        }
    }
}

async fn page(
    connection: &mut SqliteConnection,
    after: Option<Uuid>,
) -> Result<Vec<VideoFacts>, StoreError> {
    let mut videos = Vec::new();
    let mut rows = sqlx::query(VIDEOS).bind(after).bind(PAGE).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        videos.push(VideoFacts {
            id: row.try_get(0)?,
            title: row.try_get(1)?,
            genre: row.try_get(2)?,
            maker: row.try_get(3)?,
            price: row.try_get(4)?,
            published_at_us: row.try_get(5)?,
            ..VideoFacts::default()
        });
    }
    Ok(videos)
}

async fn add_names(
    connection: &mut SqliteConnection,
    statement: &'static str,
    (first, last): (Uuid, Uuid),
    videos: &mut [VideoFacts],
    names: fn(&mut VideoFacts) -> &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query_as(statement)
        .bind(first)
        .bind(last)
        .fetch(connection);
    while let Some((id, name)) = rows.try_next().await? {
        add_name(videos, id, name, names);
    }
    Ok(())
}
