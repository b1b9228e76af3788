use super::Sqlite;
use super::erasure::tombstones;
use super::ids::Sound;
use super::snapshot::{catalogue, each, get, uuid};
use crate::source::Selection;
use crate::{
    InteractionKind, InteractionRow, SnapshotOptions, Source, SourceRead, SourceSink, StoreError,
};
use sqlx::SqliteConnection;
use std::collections::HashSet;
use uuid::Uuid;

impl Sqlite {
    /// Reads everything in one snapshot, row by row. Pseudonyms equal the numbers that PostgreSQL
    /// gives.
    pub(crate) async fn stream_source<S: SourceSink>(
        &self,
        source: &Source,
        options: SnapshotOptions,
        sink: &mut S,
    ) -> Result<SourceRead, S::Error> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::from)?;
        let sound = Sound::of(source);
        sound.tell(&mut transaction).await?;
        let source = &sound.source;
        let (catalogue, _) = catalogue(&mut transaction, source).await?;
        let mut selection = Selection::new(&catalogue, tombstones(&mut transaction).await?);
        for video in catalogue.videos() {
            sink.video(video.to_video())?;
        }
        drop(catalogue);
        let queries = [
            (InteractionKind::Like, &source.likes),
            (InteractionKind::Skip, &source.skips),
        ];
        let mut people = HashSet::new();
        if options.pseudonyms || options.max_age_days.is_some() {
            for (kind, query) in queries {
                rows(&mut transaction, kind, query, |row| {
                    if options.pseudonyms && !people.contains(&row.user) {
                        people.insert(row.user);
                    }
                    selection.takes(kind, &row).map(drop)
                })
                .await?;
            }
            selection.without_older(options.max_age_days);
        }
        people.retain(|&user| !selection.erased(user));
        let mut people: Vec<Uuid> = people.into_iter().collect();
        people.sort_unstable();
        for (kind, query) in queries {
            rows(&mut transaction, kind, query, |mut row| {
                if selection.takes(kind, &row)? {
                    if options.pseudonyms {
                        row.user = Uuid::from_u128(number(&people, row.user));
                    }
                    sink.interaction(kind, row)?;
                }
                Ok::<_, S::Error>(())
            })
            .await?;
        }
        Ok(selection.finish())
    }

    pub(crate) async fn source_video_ids(&self, source: &Source) -> Result<Vec<Uuid>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let sound = Sound::of(source);
        sound.check(&mut connection).await?;
        let source = &sound.source;
        let mut ids = Vec::new();
        each(&mut connection, "id", &source.videos, |row| {
            ids.push(uuid(row, "videos", 0)?);
            Ok::<_, StoreError>(())
        })
        .await?;
        Ok(ids)
    }
}

/// The position of a user among `people`, which ascend, from 1.
fn number(people: &[Uuid], user: Uuid) -> u128 {
    people.partition_point(|other| *other <= user) as u128
}

async fn rows<E: From<StoreError>>(
    connection: &mut SqliteConnection,
    kind: InteractionKind,
    query: &str,
    mut take: impl FnMut(InteractionRow) -> Result<(), E>,
) -> Result<(), E> {
    let table = kind.table();
    each(connection, "user_id, video_id, created_at", query, |row| {
        take(InteractionRow {
            user: uuid(row, table, 0)?,
            video: uuid(row, table, 1)?,
            at_us: get(row, table, 2)?,
        })
    })
    .await
}
