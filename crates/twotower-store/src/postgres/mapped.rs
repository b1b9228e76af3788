//! Where serving reads what the application keeps in tables of other names.

use super::Postgres;
use super::ids::{self, IdType, spellings};
use super::session::Session;
use super::snapshot::{Query, VIDEOS, interactions, names};
use crate::snapshot::{Mapping, chooses_from};
use crate::{InteractionKind, Source, StoreError};
use std::sync::Arc;
use uuid::Uuid;

/// The queries of a source that read other tables than ours.
pub(super) type Mapped = Mapping<MappedQuery>;

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct MappedQuery {
    /// The operator's own, ready to stand in parentheses.
    sql: String,
    /// The same, without rows whose ids cannot be ours.
    sound: String,
    /// Of the column by which its rows are looked for: of the video, or of the user who likes.
    id: IdType,
}

impl MappedQuery {
    /// What follows FROM: the rows as `source`.
    pub(super) fn rows(&self) -> String {
        format!("(\n{}\n) AS source", self.sound)
    }

    /// What of `source` [`Self::is`] compares, and an index has to be over.
    pub(super) fn compared(&self, column: &str) -> String {
        match &self.id {
            IdType::Uuid | IdType::Text(_) => format!("source.{column}"),
            IdType::Cast => format!("source.{column}::uuid"),
        }
    }

    /// The condition that `column` of `source` is `id`, an expression of type uuid.
    pub(super) fn is(&self, column: &str, id: &str) -> String {
        match &self.id {
            IdType::Uuid => format!("source.{column} = {id}"),
            IdType::Text(kind) => {
                format!("source.{column} = ANY ({}::{kind}[])", spellings(id))
            }
            IdType::Cast => format!("{} = {id}", self.compared(column)),
        }
    }

    /// The condition that `column` of `source` is one of `ids`, an expression of type uuid[].
    pub(super) fn is_among(&self, column: &str, ids: &str) -> String {
        match &self.id {
            IdType::Uuid => format!("source.{column} = ANY ({ids})"),
            IdType::Text(kind) => format!(
                "source.{column} = ANY (ARRAY(SELECT unnest({}) FROM unnest({ids}) AS asked (id))::{kind}[])",
                spellings("asked.id")
            ),
            IdType::Cast => format!("source.{column}::uuid = ANY ({ids})"),
        }
    }
}

impl Postgres {
    /// The same connections, where serving reads from `source`. Each of its queries is planned once, so that what is wrong with one is
    /// known now.
    pub(crate) async fn with_source(&self, source: &Source) -> Result<Self, StoreError> {
        let mapping = source.mapping();
        if mapping.is_empty() {
            return Ok(Self {
                mapped: None,
                ..self.clone()
            });
        }
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let reading = &mut session;
        let mapped = Mapped {
            videos: described(reading, &VIDEOS, mapping.videos).await?,
            video_tags: described(reading, &names("video_tags"), mapping.video_tags).await?,
            video_performers: described(
                reading,
                &names("video_performers"),
                mapping.video_performers,
            )
            .await?,
            likes: described(reading, &interactions("likes"), mapping.likes).await?,
            skips: described(reading, &interactions("skips"), mapping.skips).await?,
        };
        session.commit().await?;
        let made = Self {
            mapped: Some(Arc::new(mapped)),
            ..self.clone()
        };
        // What each request asks, of nobody: its parts fit each other, and the half that is read from our own tables.
        made.user_states(&[Uuid::nil()], 1).await?;
        Ok(made)
    }

    /// What `other` reads from, over these connections.
    pub(crate) fn reading_as(&self, other: &Self) -> Self {
        Self {
            mapped: other.mapped.clone(),
            ..self.clone()
        }
    }

    /// Whether likes or skips are read from a table of the application's own.
    pub(crate) fn reads_elsewhere(&self, kind: InteractionKind) -> bool {
        self.mapped_interactions(kind)
            .is_some_and(|query| !chooses_from(&query.sql, kind.table()))
    }

    pub(super) fn mapped_interactions(&self, kind: InteractionKind) -> Option<&MappedQuery> {
        self.mapped.as_ref()?.interactions(kind)
    }

    pub(super) fn mapped_videos(&self) -> Option<&MappedQuery> {
        self.mapped.as_ref()?.videos.as_ref()
    }

    /// Where anything that is known of videos is read elsewhere.
    pub(super) fn mapped_catalogue(&self) -> Option<&Mapped> {
        self.mapped.as_deref().filter(|mapped| mapped.catalogue())
    }
}

/// A query that was tried.
async fn described<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: Option<String>,
) -> Result<Option<MappedQuery>, StoreError> {
    let Some(sql) = sql else {
        return Ok(None);
    };
    let types = ids::described(session, query, &sql).await?;
    Ok(Some(MappedQuery {
        sound: query.looked_up(&sql, &types).unwrap_or_else(|| sql.clone()),
        sql,
        id: types.into_iter().next().unwrap_or(IdType::Cast),
    }))
}
