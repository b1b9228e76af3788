use super::Sqlite;
use super::erasure::tombstones;
use super::ids::Sound;
use crate::snapshot::{LastSeenBuilder, SnapshotBuilder, tidy};
use crate::store::known_time;
use crate::{InteractionKind, SnapshotOptions, Source, StoreError};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Decode, Row, Sqlite as Database, SqliteConnection, Type};
use twotower_core::feature::{Catalogue, CatalogueBuilder, Video};
use uuid::Uuid;

impl Sqlite {
    pub(crate) async fn read_snapshot(
        &self,
        source: &Source,
        _: SnapshotOptions,
    ) -> Result<SnapshotBuilder, StoreError> {
        // In WAL mode a reader sees the database as of its first read.
        let mut transaction = self.pool.begin().await?;
        let sound = Sound::of(source);
        sound.tell(&mut transaction).await?;
        let source = &sound.source;
        let (catalogue, orphans) = catalogue(&mut transaction, source).await?;
        let mut snapshot = SnapshotBuilder::new(catalogue, orphans);
        snapshot.leave_out(tombstones(&mut transaction).await?);
        for (kind, query) in [
            (InteractionKind::Like, &source.likes),
            (InteractionKind::Skip, &source.skips),
        ] {
            each(
                &mut transaction,
                "user_id, video_id, created_at",
                query,
                |row| {
                    let table = kind.table();
                    snapshot.push(
                        kind,
                        uuid(row, table, 0)?,
                        uuid(row, table, 1)?,
                        get(row, table, 2)?,
                    )
                },
            )
            .await?;
        }
        Ok(snapshot)
    }

    pub(crate) async fn last_seen(&self, source: &Source) -> Result<LastSeenBuilder, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let sound = Sound::of(source);
        sound.check(&mut transaction).await?;
        let source = &sound.source;
        let mut seen = LastSeenBuilder::new(tombstones(&mut transaction).await?);
        for (kind, query) in [
            (InteractionKind::Like, &source.likes),
            (InteractionKind::Skip, &source.skips),
        ] {
            each(
                &mut transaction,
                "user_id, video_id, created_at",
                query,
                |row| {
                    let table = kind.table();
                    seen.push(kind, uuid(row, table, 0)?, get(row, table, 2)?)
                },
            )
            .await?;
        }
        Ok(seen)
    }
}

/// The videos of a source with their names, and the number of names that belong to no video.
pub(super) async fn catalogue(
    connection: &mut SqliteConnection,
    source: &Source,
) -> Result<(Catalogue, u64), StoreError> {
    let mut catalogue = CatalogueBuilder::default();
    let select = "id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url";
    each(connection, select, &source.videos, |row| {
        catalogue.video(&video(row)?);
        Ok::<_, StoreError>(())
    })
    .await?;
    let select = "video_id, name";
    each(connection, select, &source.video_tags, |row| {
        let query = "video_tags";
        catalogue.tag(uuid(row, query, 0)?, get(row, query, 1)?);
        Ok::<_, StoreError>(())
    })
    .await?;
    each(connection, select, &source.video_performers, |row| {
        let query = "video_performers";
        catalogue.performer(uuid(row, query, 0)?, get(row, query, 1)?);
        Ok::<_, StoreError>(())
    })
    .await?;
    let orphans = catalogue.orphans();
    Ok((catalogue.finish()?, orphans))
}

/// Columns of the source's queries, by query, for errors.
fn column(query: &'static str, index: usize) -> &'static str {
    let columns: &[&str] = match query {
        "videos" => &[
            "id",
            "title",
            "description",
            "genre",
            "maker",
            "price",
            "duration_seconds",
            "published_at",
            "thumbnail_url",
        ],
        "likes" | "skips" => &["user_id", "video_id", "created_at"],
        _ => &["video_id", "name"],
    };
    columns[index]
}

/// Runs a query of the source, with its columns in the order of `columns`.
pub(super) async fn each<E: From<StoreError>>(
    connection: &mut SqliteConnection,
    columns: &'static str,
    query: &str,
    mut take: impl FnMut(&SqliteRow) -> Result<(), E>,
) -> Result<(), E> {
    // The operator's own SQL, from the configuration.
    let query = tidy(query);
    let statement = AssertSqlSafe(format!("SELECT {columns} FROM (\n{query}\n)"));
    let mut rows = sqlx::query(statement).persistent(false).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
        take(&row)?;
    }
    Ok(())
}

pub(super) fn video(row: &SqliteRow) -> Result<Video, StoreError> {
    let query = "videos";
    let text = |index| get::<Option<String>>(row, query, index);
    // Whole numbers arrive as integers, whatever the column's type.
    let number = |index| {
        let x = get::<Option<f64>>(row, query, index)
            .or_else(|_| get::<Option<i64>>(row, query, index).map(|x| x.map(|x| x as f64)))?;
        Ok::<_, StoreError>(x.map(|x| x as f32).filter(|x| x.is_finite()))
    };
    Ok(Video {
        id: uuid(row, query, 0)?,
        title: text(1)?.unwrap_or_default(),
        description: text(2)?.unwrap_or_default(),
        genre: text(3)?,
        maker: text(4)?,
        price: number(5)?,
        duration_seconds: number(6)?,
        published_at_us: get::<Option<i64>>(row, query, 7)?.and_then(known_time),
        thumbnail_url: text(8)?,
        ..Video::default()
    })
}

pub(super) fn get<'r, T: Decode<'r, Database> + Type<Database>>(
    row: &'r SqliteRow,
    query: &'static str,
    index: usize,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| StoreError::Row {
        query,
        column: column(query, index),
        reason: match error {
            sqlx::Error::ColumnDecode { source, .. } => source.to_string(),
            error => error.to_string(),
        },
    })
}

/// An id, as 16 bytes or as text.
pub(super) fn uuid(row: &SqliteRow, query: &'static str, index: usize) -> Result<Uuid, StoreError> {
    let bytes: &[u8] = get(row, query, index)?;
    // The parser does not accept text without hyphens in braces.
    let digits = match bytes {
        [b'{', digits @ .., b'}'] => digits,
        _ => bytes,
    };
    Uuid::from_slice(bytes)
        .or_else(|_| Uuid::try_parse_ascii(digits))
        .map_err(|error| StoreError::Row {
            query,
            column: column(query, index),
            reason: format!("holds no UUID: {error}"),
        })
}
