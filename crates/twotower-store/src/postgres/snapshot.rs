use super::copy::{Field, copy_out};
use super::erasure::{tombstones, was_erased};
use super::ids::Sound;
use super::{Postgres, Session};
use crate::snapshot::{LastSeenBuilder, SnapshotBuilder, tidy};
use crate::store::{BULK_TIMEOUT, known_time};
use crate::{InteractionKind, SnapshotOptions, Source, StoreError};
use twotower_core::feature::{Catalogue, CatalogueBuilder, Video};

/// A query of the source: its name, and its columns with the types to which they are cast. Casts
/// allow the application to store ids as text or prices as numeric.
pub(super) struct Query<const N: usize> {
    pub(super) name: &'static str,
    pub(super) columns: [(&'static str, &'static str); N],
}

pub(super) const VIDEOS: Query<9> = Query {
    name: "videos",
    columns: [
        ("id", "uuid"),
        ("title", "text"),
        ("description", "text"),
        ("genre", "text"),
        ("maker", "text"),
        ("price", "real"),
        ("duration_seconds", "real"),
        ("published_at", "timestamptz"),
        ("thumbnail_url", "text"),
    ],
};

pub(super) const fn names(name: &'static str) -> Query<2> {
    Query {
        name,
        columns: [("video_id", "uuid"), ("name", "text")],
    }
}

pub(super) const fn interactions(name: &'static str) -> Query<3> {
    Query {
        name,
        columns: [
            ("user_id", "uuid"),
            ("video_id", "uuid"),
            ("created_at", "timestamptz"),
        ],
    }
}

impl Postgres {
    pub(crate) async fn read_snapshot(
        &self,
        source: &Source,
        options: SnapshotOptions,
    ) -> Result<SnapshotBuilder, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let sound = Sound::of(&mut session, source).await?;
        sound.tell(&mut session).await?;
        let source = &sound.source;
        let (catalogue, orphans) = catalogue(&mut session, source).await?;
        let mut snapshot = SnapshotBuilder::new(catalogue, orphans);
        let tombstones = tombstones(&mut session).await?;
        snapshot.leave_out(if options.pseudonyms {
            tombstones.for_pseudonyms()
        } else {
            tombstones
        });
        for (kind, query) in [
            (InteractionKind::Like, &source.likes),
            (InteractionKind::Skip, &source.skips),
        ] {
            let columns = interactions(kind.table());
            let query = if options.pseudonyms {
                &pseudonymous(source, query)
            } else {
                query
            };
            each(&mut session, &columns, query, |[user, video, at]| {
                snapshot.push(kind, user.uuid()?, video.uuid()?, at.time_us()?)
            })
            .await?;
        }
        session.commit().await?;
        Ok(snapshot)
    }

    pub(crate) async fn last_seen(&self, source: &Source) -> Result<LastSeenBuilder, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let Sound { source, .. } = Sound::of(&mut session, source).await?;
        let mut seen = LastSeenBuilder::new(tombstones(&mut session).await?);
        for (kind, sql) in [
            (InteractionKind::Like, &source.likes),
            (InteractionKind::Skip, &source.skips),
        ] {
            let columns = Query {
                name: kind.table(),
                columns: [("user_id", "uuid"), ("created_at", "timestamptz")],
            };
            let sql = tidy(sql);
            let latest = format!(
                "SELECT user_id, max(created_at) AS created_at FROM (\n{sql}\n) AS rows GROUP BY user_id"
            );
            each(&mut session, &columns, &latest, |[user, at]| {
                seen.push(kind, user.uuid()?, at.time_us()?)
            })
            .await?;
        }
        session.commit().await?;
        Ok(seen)
    }
}

/// The videos of a source with their names, and the number of names that belong to no video.
pub(super) async fn catalogue(
    session: &mut Session,
    source: &Source,
) -> Result<(Catalogue, u64), StoreError> {
    let mut catalogue = CatalogueBuilder::default();
    each(session, &VIDEOS, &source.videos, |fields| {
        catalogue.video(&video(&fields)?);
        Ok::<_, StoreError>(())
    })
    .await?;
    let tags = names("video_tags");
    each(session, &tags, &source.video_tags, |[id, name]| {
        catalogue.tag(id.uuid()?, &name.text()?);
        Ok::<_, StoreError>(())
    })
    .await?;
    let performers = names("video_performers");
    let query = &source.video_performers;
    each(session, &performers, query, |[id, name]| {
        catalogue.performer(id.uuid()?, &name.text()?);
        Ok::<_, StoreError>(())
    })
    .await?;
    let orphans = catalogue.orphans();
    Ok((catalogue.finish()?, orphans))
}

/// `query`, one of the two for interactions, with a number in place of each user's id: the rank
/// among all ids as a UUID, so that ids and numbers sort alike. Erased users have none.
pub(super) fn pseudonymous(source: &Source, query: &str) -> String {
    let (likes, skips, query) = (tidy(&source.likes), tidy(&source.skips), tidy(query));
    format!(
        "WITH ids AS (
             SELECT user_id::uuid AS id FROM (\n{likes}\n) AS likes UNION SELECT user_id::uuid FROM (\n{skips}\n) AS skips
         ), people AS MATERIALIZED (
             SELECT id, lpad(to_hex(row_number() OVER (ORDER BY id)), 32, '0')::uuid AS pseudonym FROM ids
             WHERE id IS NOT NULL AND NOT (EXISTS (SELECT FROM twotower.tombstones) AND {})
         )
         SELECT pseudonym AS user_id, video_id, created_at FROM (\n{query}\n) AS rows
         LEFT JOIN people ON id = rows.user_id::uuid WHERE id IS NOT NULL OR rows.user_id IS NULL",
        was_erased!("id")
    )
}

/// Runs a query of the source.
pub(super) async fn each<const N: usize, E: From<StoreError>>(
    session: &mut Session,
    query: &Query<N>,
    sql: &str,
    mut take: impl FnMut([Field<'_>; N]) -> Result<(), E>,
) -> Result<(), E> {
    // The operator's own SQL, from the configuration; the transaction is read-only.
    let sql = tidy(sql);
    let columns = query
        .columns
        .map(|(column, kind)| format!("source.{column}::{kind}"))
        .join(", ");
    let statement =
        format!("COPY (SELECT {columns} FROM (\n{sql}\n) AS source) TO STDOUT (FORMAT binary)");
    copy_out(
        session,
        query.name,
        &statement,
        |fields: [Option<&[u8]>; N]| {
            let mut named = query.columns.map(|(column, _)| Field {
                query: query.name,
                column,
                bytes: None,
            });
            for (named, bytes) in named.iter_mut().zip(fields) {
                named.bytes = bytes;
            }
            take(named)
        },
    )
    .await
}

fn video(fields: &[Field<'_>; 9]) -> Result<Video, StoreError> {
    let [
        id,
        title,
        description,
        genre,
        maker,
        price,
        duration,
        published,
        thumbnail,
    ] = *fields;
    let number = |field: Field<'_>| {
        field
            .optional(Field::real)
            .map(|x| x.filter(|x| x.is_finite()))
    };
    Ok(Video {
        id: id.uuid()?,
        title: title.optional(Field::text)?.unwrap_or_default(),
        description: description.optional(Field::text)?.unwrap_or_default(),
        genre: genre.optional(Field::text)?,
        maker: maker.optional(Field::text)?,
        price: number(price)?,
        duration_seconds: number(duration)?,
        published_at_us: published.optional(Field::time_us)?.and_then(known_time),
        thumbnail_url: thumbnail.optional(Field::text)?,
        ..Video::default()
    })
}
