use super::session::{query, query_as};
use super::{Postgres, Session};
use crate::StoreError;
use crate::store::{BULK_TIMEOUT, VideoFacts, add_name, tidy_facts};
use futures_util::TryStreamExt;
use sqlx::Row;
use uuid::Uuid;

/// Videos that are held at a time.
const PAGE: i64 = 5_000;

/// Our own table knows when a video came; a table of the application's own may not, and then the name means the constant outside
/// the subquery. Casts, because it may also count in cents, or in time without a zone.
const VIDEOS: &str = "
    SELECT facts.* FROM (SELECT NULL::timestamptz AS created_at) AS absent CROSS JOIN LATERAL (
        SELECT id, coalesce(title, ''), genre, maker, price::real,
               (1000000 * coalesce(
                   CASE WHEN isfinite(published_at) THEN extract(epoch FROM published_at) END,
                   CASE WHEN isfinite(created_at) THEN extract(epoch FROM created_at) END
               ))::bigint
        FROM public.videos WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2
    ) AS facts ORDER BY facts.id";

const TAGS: &str = "
    SELECT video_id, name FROM public.video_tags JOIN public.tags ON id = tag_id WHERE video_id BETWEEN $1 AND $2";

const PERFORMERS: &str = "
    SELECT video_id, name FROM public.video_performers JOIN public.performers ON id = performer_id
    WHERE video_id BETWEEN $1 AND $2";

impl Postgres {
    pub(crate) async fn for_each_video_facts(
        &self,
        each: &mut (dyn FnMut(VideoFacts) + Send),
    ) -> Result<(), StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let mut after = None;
        loop {
            let mut videos = page(&mut session, after).await?;
            let (Some(first), Some(last)) = (videos.first(), videos.last()) else {
                break;
            };
            let range = (first.id, last.id);
            after = Some(last.id);
            add_names(&mut session, TAGS, range, &mut videos, |video| {
                &mut video.tags
            })
            .await?;
            add_names(&mut session, PERFORMERS, range, &mut videos, |video| {
                &mut video.performers
            })
            .await?;
            tidy_facts(&mut videos);
            videos.into_iter().for_each(&mut *each);
        }
        session.commit().await
    }
}

async fn page(session: &mut Session, after: Option<Uuid>) -> Result<Vec<VideoFacts>, StoreError> {
    let mut videos = Vec::new();
    let mut rows = query(VIDEOS).bind(after).bind(PAGE).fetch(&mut **session);
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
    session: &mut Session,
    statement: &'static str,
    (first, last): (Uuid, Uuid),
    videos: &mut [VideoFacts],
    names: fn(&mut VideoFacts) -> &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut rows = query_as(statement)
        .bind(first)
        .bind(last)
        .fetch(&mut **session);
    while let Some((id, name)) = rows.try_next().await? {
        add_name(videos, id, name, names);
    }
    Ok(())
}
