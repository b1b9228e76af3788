use super::mapped::{Mapped, MappedQuery};
use super::session::{query, query_as};
use super::{CHUNK, Postgres, Session};
use crate::store::{as_seen, changes, chunks, known_time, sort_names};
use crate::{StoreError, VideoColumn, VideoColumns, VideosWritten};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use std::borrow::Cow;
use std::collections::HashMap;
use twotower_core::feature::Video;
use uuid::Uuid;

/// Columns that are not named in `$10` keep their value, and so do numbers that are equal in Rust:
/// `price::real` and infinite times cannot be represented there exactly. New numbers are passed as
/// decimals: from a `real`, an application's `numeric` column would take six digits.
const UPSERT: &str = "
    INSERT INTO public.videos AS old (id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url)
    SELECT id, title, description, genre, maker, price, duration_seconds,
           timestamptz 'epoch' + published_at_us * interval '1 microsecond', thumbnail_url
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]::numeric[], $7::text[]::numeric[],
                $8::bigint[], $9::text[])
         AS new (id, title, description, genre, maker, price, duration_seconds, published_at_us, thumbnail_url)
    ON CONFLICT (id) DO UPDATE SET
        title = CASE WHEN 'title' = ANY ($10) THEN excluded.title ELSE old.title END,
        description = CASE WHEN 'description' = ANY ($10) THEN excluded.description ELSE old.description END,
        genre = CASE WHEN 'genre' = ANY ($10) THEN excluded.genre ELSE old.genre END,
        maker = CASE WHEN 'maker' = ANY ($10) THEN excluded.maker ELSE old.maker END,
        price = CASE WHEN 'price' = ANY ($10) AND old.price::real IS DISTINCT FROM excluded.price::real
                     THEN excluded.price ELSE old.price END,
        duration_seconds = CASE WHEN 'duration_seconds' = ANY ($10)
                                     AND old.duration_seconds::real IS DISTINCT FROM excluded.duration_seconds::real
                                THEN excluded.duration_seconds ELSE old.duration_seconds END,
        published_at = CASE WHEN 'published_at' = ANY ($10) THEN excluded.published_at ELSE old.published_at END,
        thumbnail_url = CASE WHEN 'thumbnail_url' = ANY ($10) THEN excluded.thumbnail_url ELSE old.thumbnail_url END";

/// Statements that replace the names of videos: insert missing names ($1), delete the videos' links
/// ($1), insert links ($1 video, $2 name).
struct Names {
    insert: &'static str,
    unlink: &'static str,
    link: &'static str,
}

const TAGS: Names = Names {
    insert: "INSERT INTO public.tags (name) SELECT DISTINCT name FROM unnest($1::text[]) AS new (name)
             WHERE NOT EXISTS (SELECT FROM public.tags WHERE tags.name = new.name) ORDER BY name ON CONFLICT DO NOTHING",
    unlink: "DELETE FROM public.video_tags WHERE video_id = ANY ($1)",
    link: "INSERT INTO public.video_tags (video_id, tag_id)
           SELECT new.video_id, tags.id FROM unnest($1::uuid[], $2::text[]) AS new (video_id, name)
           JOIN public.tags USING (name) ON CONFLICT DO NOTHING",
};

const PERFORMERS: Names = Names {
    insert: "INSERT INTO public.performers (name) SELECT DISTINCT name FROM unnest($1::text[]) AS new (name)
             WHERE NOT EXISTS (SELECT FROM public.performers WHERE performers.name = new.name) ORDER BY name
             ON CONFLICT DO NOTHING",
    unlink: "DELETE FROM public.video_performers WHERE video_id = ANY ($1)",
    link: "INSERT INTO public.video_performers (video_id, performer_id)
           SELECT new.video_id, performers.id FROM unnest($1::uuid[], $2::text[]) AS new (video_id, name)
           JOIN public.performers USING (name) ON CONFLICT DO NOTHING",
};

impl Postgres {
    pub(crate) async fn write_videos(
        &self,
        columns: VideoColumns,
        videos: &[Video],
    ) -> Result<VideosWritten, StoreError> {
        let mut session = self.begin_bulk().await?;
        let mut written = VideosWritten::default();
        for chunk in chunks(videos, CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|video| video.id).collect();
            let (changed, part) =
                changes(chunk, columns, &ById::OURS.read(&mut session, &ids).await?);
            written.inserted += part.inserted;
            written.updated += part.updated;
            if changed.is_empty() {
                continue;
            }
            upsert(&mut session, columns, &changed).await?;
            if columns.contains(VideoColumn::Tags) {
                replace(&mut session, &TAGS, &changed, |video| &video.tags).await?;
            }
            if columns.contains(VideoColumn::Performers) {
                replace(&mut session, &PERFORMERS, &changed, |video| {
                    &video.performers
                })
                .await?;
            }
        }
        session.commit().await?;
        Ok(written)
    }

    pub(crate) async fn videos_by_id(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Video>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let statements = match self.mapped_catalogue() {
            Some(mapped) => &ById::mapped(mapped),
            None => &ById::OURS,
        };
        let videos = statements.read(&mut session, ids).await?;
        session.commit().await?;
        as_seen(videos)
    }

    pub(crate) async fn video_titles(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        let mut session = self.begin_bulk().await?;
        let titles = query_as("SELECT id, coalesce(title, '') FROM public.videos ORDER BY id")
            .fetch_all(&mut *session)
            .await?;
        session.commit().await?;
        Ok(titles)
    }
}

/// A column of all rows, as an array parameter.
fn column<'a, T: 'a>(videos: &'a [Video], field: impl Fn(&'a Video) -> T) -> Vec<T> {
    videos.iter().map(field).collect()
}

/// The shortest decimal that parses to `number`, without an exponent.
fn decimal(number: f32) -> String {
    number.to_string()
}

async fn upsert(
    session: &mut Session,
    columns: VideoColumns,
    videos: &[Video],
) -> Result<(), StoreError> {
    query(UPSERT)
        .bind(column(videos, |video| video.id))
        .bind(column(videos, |video| &*video.title))
        .bind(column(videos, |video| &*video.description))
        .bind(column(videos, |video| video.genre.as_deref()))
        .bind(column(videos, |video| video.maker.as_deref()))
        .bind(column(videos, |video| video.price.map(decimal)))
        .bind(column(videos, |video| video.duration_seconds.map(decimal)))
        .bind(column(videos, |video| video.published_at_us))
        .bind(column(videos, |video| video.thumbnail_url.as_deref()))
        .bind(columns.names())
        .execute(&mut **session)
        .await?;
    Ok(())
}

async fn replace(
    session: &mut Session,
    statements: &Names,
    videos: &[Video],
    names: fn(&Video) -> &Vec<String>,
) -> Result<(), StoreError> {
    let (ids, names): (Vec<Uuid>, Vec<&str>) = videos
        .iter()
        .flat_map(|video| names(video).iter().map(|name| (video.id, &**name)))
        .unzip();
    query(statements.insert)
        .bind(&names)
        .execute(&mut **session)
        .await?;
    query(statements.unlink)
        .bind(column(videos, |video| video.id))
        .execute(&mut **session)
        .await?;
    query(statements.link)
        .bind(ids)
        .bind(names)
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// Statements that read videos by id ($1), and their names.
struct ById {
    videos: Cow<'static, str>,
    tags: Cow<'static, str>,
    performers: Cow<'static, str>,
}

impl ById {
    // The casts are for application tables that count in cents or whole seconds. An infinite time
    // counts as unknown.
    const OURS: Self = Self {
        videos: Cow::Borrowed(
            "SELECT id, coalesce(title, '') AS title, coalesce(description, '') AS description, genre, maker, price::real,
                duration_seconds::real, thumbnail_url,
                (CASE WHEN isfinite(published_at) THEN extract(epoch FROM published_at) END * 1000000)::bigint AS published_at_us
         FROM public.videos WHERE id = ANY ($1)",
        ),
        tags: Cow::Borrowed(
            "SELECT video_id, name FROM public.video_tags JOIN public.tags ON id = tag_id WHERE video_id = ANY ($1)",
        ),
        performers: Cow::Borrowed(
            "SELECT video_id, name FROM public.video_performers JOIN public.performers ON id = performer_id WHERE video_id = ANY ($1)",
        ),
    };

    /// From the application's own tables, where these are read.
    fn mapped(mapped: &Mapped) -> Self {
        let names = |query: Option<&MappedQuery>, ours: Cow<'static, str>| match query {
            Some(query) => Cow::Owned(format!(
                "SELECT source.video_id::uuid, source.name::text FROM {} WHERE {} AND source.name IS NOT NULL",
                query.rows(),
                query.is_among("video_id", "$1::uuid[]")
            )),
            None => ours,
        };
        let videos = match &mapped.videos {
            Some(query) => Cow::Owned(format!(
                "SELECT source.id::uuid, coalesce(source.title::text, ''), coalesce(source.description::text, ''), source.genre::text,
                        source.maker::text, source.price::real, source.duration_seconds::real, source.thumbnail_url::text,
                        (CASE WHEN isfinite(source.published_at::timestamptz)
                              THEN extract(epoch FROM source.published_at::timestamptz) END * 1000000)::bigint
                 FROM {} WHERE {}",
                query.rows(),
                query.is_among("id", "$1::uuid[]")
            )),
            None => Self::OURS.videos,
        };
        Self {
            videos,
            tags: names(mapped.video_tags.as_ref(), Self::OURS.tags),
            performers: names(mapped.video_performers.as_ref(), Self::OURS.performers),
        }
    }

    /// The stored videos, with which [`changes`] compares. Also corrections of text that models do
    /// not see count as changes.
    async fn read(
        &self,
        session: &mut Session,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Video>, StoreError> {
        // Ours, or contains the operator's own SQL, from the configuration.
        let rows = sqlx::query(AssertSqlSafe(&*self.videos))
            .persistent(false)
            .bind(ids)
            .fetch_all(&mut **session)
            .await?;
        let mut videos = HashMap::with_capacity(rows.len());
        for row in rows {
            let video = video(&row)?;
            videos.insert(video.id, video);
        }
        let lists: [(&str, NamesOf); 2] = [
            (&self.tags, |video| &mut video.tags),
            (&self.performers, |video| &mut video.performers),
        ];
        for (statement, names) in lists {
            let rows: Vec<(Uuid, String)> = sqlx::query_as(AssertSqlSafe(statement))
                .persistent(false)
                .bind(ids)
                .fetch_all(&mut **session)
                .await?;
            for (id, name) in rows {
                if let Some(video) = videos.get_mut(&id) {
                    names(video).push(name);
                }
            }
        }
        videos.values_mut().for_each(sort_names);
        Ok(videos)
    }
}

type NamesOf = fn(&mut Video) -> &mut Vec<String>;

/// A row of [`ById::videos`], in the order of its columns.
fn video(row: &PgRow) -> Result<Video, sqlx::Error> {
    Ok(Video {
        id: row.try_get(0)?,
        title: row.try_get(1)?,
        description: row.try_get(2)?,
        genre: row.try_get(3)?,
        maker: row.try_get(4)?,
        price: row.try_get(5)?,
        duration_seconds: row.try_get(6)?,
        thumbnail_url: row.try_get(7)?,
        published_at_us: row.try_get::<Option<i64>, _>(8)?.and_then(known_time),
        ..Video::default()
    })
}
