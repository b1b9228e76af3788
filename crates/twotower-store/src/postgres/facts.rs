use super::mapped::{Mapped, MappedQuery};
use super::session::{query, query_as};
use super::{Postgres, Session};
use crate::StoreError;
use crate::store::{BULK_TIMEOUT, VideoFacts, add_name, tidy_facts};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use std::collections::VecDeque;
use uuid::Uuid;

/// Videos held in memory at a time.
const PAGE: i64 = 5_000;

/// Our own table records when a video arrived. An application's own table may not; the name then
/// refers to the constant outside the subquery. The casts are for tables that count in cents, or in
/// time without a zone.
macro_rules! own_videos {
    ($which:literal) => {
        concat!(
            "
    SELECT facts.* FROM (SELECT NULL::timestamptz AS created_at) AS absent CROSS JOIN LATERAL (
        SELECT id, coalesce(title, ''), genre, maker, price::real,
               (1000000 * coalesce(
                   CASE WHEN isfinite(published_at) THEN extract(epoch FROM published_at) END,
                   CASE WHEN isfinite(created_at) THEN extract(epoch FROM created_at) END
               ))::bigint
        FROM public.videos ",
            $which,
            "
    ) AS facts"
        )
    };
}

const VIDEOS: &str = concat!(
    own_videos!("WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2"),
    " ORDER BY facts.id"
);

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
        if let Some(mapped) = self.mapped_catalogue() {
            return self.for_each_mapped_facts(mapped, each).await;
        }
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
        videos.push(facts(&row)?);
    }
    Ok(videos)
}

fn facts(row: &PgRow) -> Result<VideoFacts, sqlx::Error> {
    Ok(VideoFacts {
        id: row.try_get(0)?,
        title: row.try_get(1)?,
        genre: row.try_get(2)?,
        maker: row.try_get(3)?,
        price: row.try_get(4)?,
        published_at_us: row.try_get(5)?,
        ..VideoFacts::default()
    })
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

impl Postgres {
    /// The same from the application's own tables. Their ids may sort in another order than ours,
    /// and lack an index for it. Each table is therefore sorted once on the server, and all are
    /// merged.
    async fn for_each_mapped_facts(
        &self,
        mapped: &Mapped,
        each: &mut (dyn FnMut(VideoFacts) + Send),
    ) -> Result<(), StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        // The cursors are read to the end.
        query("SET LOCAL cursor_tuple_fraction = 1")
            .execute(&mut *session)
            .await?;
        let statement = match &mapped.videos {
            Some(query) => format!(
                "SELECT source.id::uuid, coalesce(source.title::text, ''), source.genre::text, source.maker::text, source.price::real,
                        (1000000 * CASE WHEN isfinite(source.published_at::timestamptz)
                                        THEN extract(epoch FROM source.published_at::timestamptz) END)::bigint
                 FROM {} WHERE source.id IS NOT NULL",
                query.rows()
            ),
            None => own_videos!("").to_owned(),
        };
        declare(&mut session, "twotower_videos", &statement).await?;
        let (cursor, query) = ("twotower_tags", &mapped.video_tags);
        let mut tags = Names::of(&mut session, cursor, query.as_ref(), OWN_TAGS).await?;
        let (cursor, query) = ("twotower_performers", &mapped.video_performers);
        let mut performers =
            Names::of(&mut session, cursor, query.as_ref(), OWN_PERFORMERS).await?;
        let mut last = None;
        loop {
            let rows = fetch(&mut session, "twotower_videos").await?;
            let mut videos = rows.iter().map(facts).collect::<Result<Vec<_>, _>>()?;
            let Some(end) = videos.last().map(|video| video.id) else {
                break;
            };
            // A query may return a video twice; the first one counts.
            videos.dedup_by_key(|video| video.id);
            videos.retain(|video| Some(video.id) != last);
            last = Some(end);
            tags.add(&mut session, end, &mut videos, |video| &mut video.tags)
                .await?;
            performers
                .add(&mut session, end, &mut videos, |video| {
                    &mut video.performers
                })
                .await?;
            tidy_facts(&mut videos);
            videos.into_iter().for_each(&mut *each);
        }
        session.commit().await
    }
}

const OWN_TAGS: &str =
    "SELECT video_id::uuid, name FROM public.video_tags JOIN public.tags ON id = tag_id";

const OWN_PERFORMERS: &str = "SELECT video_id::uuid, name FROM public.video_performers JOIN public.performers ON id = performer_id";

/// Names of videos, ascending by video, as far as they were read.
struct Names {
    cursor: &'static str,
    rows: VecDeque<(Uuid, String)>,
    ended: bool,
}

impl Names {
    async fn of(
        session: &mut Session,
        cursor: &'static str,
        query: Option<&MappedQuery>,
        ours: &str,
    ) -> Result<Self, StoreError> {
        let theirs = query.map(|query| {
            format!(
                "SELECT source.video_id::uuid, source.name::text FROM {}
                 WHERE source.video_id IS NOT NULL AND source.name IS NOT NULL",
                query.rows()
            )
        });
        declare(session, cursor, theirs.as_deref().unwrap_or(ours)).await?;
        Ok(Self {
            cursor,
            rows: VecDeque::new(),
            ended: false,
        })
    }

    /// Adds the names of all videos up to `end` to `videos`.
    async fn add(
        &mut self,
        session: &mut Session,
        end: Uuid,
        videos: &mut [VideoFacts],
        names: fn(&mut VideoFacts) -> &mut Vec<String>,
    ) -> Result<(), StoreError> {
        loop {
            while let Some((id, name)) = self.rows.pop_front_if(|(id, _)| *id <= end) {
                add_name(videos, id, name, names);
            }
            if self.ended || !self.rows.is_empty() {
                return Ok(());
            }
            let rows = fetch(session, self.cursor).await?;
            self.ended = rows.is_empty();
            for row in rows {
                self.rows.push_back((row.try_get(0)?, row.try_get(1)?));
            }
        }
    }
}

/// Begins to read a statement's rows, ascending by its first column.
async fn declare(session: &mut Session, cursor: &str, statement: &str) -> Result<(), StoreError> {
    // Contains a name of ours, and our own SQL or the operator's, from the configuration. The
    // transaction is read-only.
    let statement = format!("DECLARE {cursor} NO SCROLL CURSOR FOR {statement} ORDER BY 1");
    sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// The next rows; none at the end.
async fn fetch(session: &mut Session, cursor: &str) -> Result<Vec<PgRow>, StoreError> {
    let statement = format!("FETCH FORWARD {PAGE} FROM {cursor}");
    let rows = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    Ok(rows.fetch_all(&mut **session).await?)
}
