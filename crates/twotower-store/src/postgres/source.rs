use super::copy::Field;
use super::erasure::tombstones;
use super::ids::Sound;
use super::snapshot::{Query, catalogue, each, interactions, pseudonymous};
use super::{Postgres, Session};
use crate::source::Selection;
use crate::store::BULK_TIMEOUT;
use crate::{
    InteractionKind, InteractionRow, SnapshotOptions, Source, SourceRead, SourceSink, StoreError,
};
use uuid::Uuid;

impl Postgres {
    /// Reads everything in one snapshot. Likes and skips are not kept in memory beyond one message
    /// of the server.
    pub(crate) async fn stream_source<S: SourceSink>(
        &self,
        source: &Source,
        options: SnapshotOptions,
        sink: &mut S,
    ) -> Result<SourceRead, S::Error> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let sound = Sound::of(&mut session, source).await?;
        sound.tell(&mut session).await?;
        let source = &sound.source;
        let (catalogue, _) = catalogue(&mut session, source).await?;
        let tombstones = tombstones(&mut session).await?;
        let mut selection = Selection::new(
            &catalogue,
            if options.pseudonyms {
                tombstones.for_pseudonyms()
            } else {
                tombstones
            },
        );
        for video in catalogue.videos() {
            sink.video(video.to_video())?;
        }
        drop(catalogue);
        let queries = [
            (InteractionKind::Like, &source.likes),
            (InteractionKind::Skip, &source.skips),
        ]
        .map(|(kind, query)| {
            let query = if options.pseudonyms {
                pseudonymous(source, query)
            } else {
                query.clone()
            };
            (kind, query)
        });
        // The age of a row counts from the latest one, which is known after all were read.
        if options.max_age_days.is_some() {
            for (kind, query) in &queries {
                rows(&mut session, *kind, query, |row| {
                    selection.takes(*kind, &row).map(drop)
                })
                .await?;
            }
            selection.without_older(options.max_age_days);
        }
        for (kind, query) in &queries {
            rows(&mut session, *kind, query, |row| {
                if selection.takes(*kind, &row)? {
                    sink.interaction(*kind, row)?;
                }
                Ok::<_, S::Error>(())
            })
            .await?;
        }
        session.commit().await?;
        Ok(selection.finish())
    }

    pub(crate) async fn source_video_ids(&self, source: &Source) -> Result<Vec<Uuid>, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        let Sound { source, .. } = Sound::of(&mut session, source).await?;
        let columns = Query {
            name: "videos",
            columns: [("id", "uuid")],
        };
        let mut ids = Vec::new();
        each(&mut session, &columns, &source.videos, |[id]| {
            ids.push(id.uuid()?);
            Ok::<_, StoreError>(())
        })
        .await?;
        session.commit().await?;
        Ok(ids)
    }
}

async fn rows<E: From<StoreError>>(
    session: &mut Session,
    kind: InteractionKind,
    query: &str,
    mut take: impl FnMut(InteractionRow) -> Result<(), E>,
) -> Result<(), E> {
    let columns = interactions(kind.table());
    each(
        session,
        &columns,
        query,
        |[user, video, at]: [Field<'_>; 3]| {
            take(InteractionRow {
                user: user.uuid()?,
                video: video.uuid()?,
                at_us: at.time_us()?,
            })
        },
    )
    .await
}
