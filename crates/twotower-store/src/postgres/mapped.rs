//! Serving from tables of the application that have other names than ours, or text as ids of users.

use super::Postgres;
use super::ids::{self, IdType, spellings};
use super::session::Session;
use super::snapshot::{Query, VIDEOS, interactions, names};
use crate::snapshot::{Mapping, chooses_from};
use crate::{InteractionKind, Source, StoreError};
use std::sync::Arc;
use uuid::Uuid;

/// The queries of a source that serving runs in place of reading our own tables.
pub(super) type Mapped = Mapping<MappedQuery>;

/// One query of a source.
#[derive(Debug, Clone)]
pub(super) struct MappedQuery {
    /// The query as the operator wrote it, ready to stand in parentheses.
    sql: String,
    /// The same query without rows whose ids cannot be ours, or whose times do not count.
    sound: String,
    /// Type of the column by which rows are looked up: the id of the video, or of the user for
    /// likes and skips.
    id: IdType,
}

impl MappedQuery {
    fn new<const N: usize>(query: &Query<N>, sql: String, types: Vec<IdType>) -> Self {
        Self {
            sound: query.looked_up(&sql, &types).unwrap_or_else(|| sql.clone()),
            sql,
            id: types.into_iter().next().unwrap_or(IdType::Cast),
        }
    }

    /// SQL that follows FROM: the rows as `source`.
    pub(super) fn rows(&self) -> String {
        format!("(\n{}\n) AS source", self.sound)
    }

    /// The expression over `column` of `source` that [`Self::is`] compares. An index over it is
    /// used.
    pub(super) fn compared(&self, column: &str) -> String {
        match &self.id {
            IdType::Uuid | IdType::Text(_) => format!("source.{column}"),
            IdType::Cast => format!("source.{column}::uuid"),
        }
    }

    /// Condition that `column` of `source` equals `id`, an expression of type uuid.
    pub(super) fn is(&self, column: &str, id: &str) -> String {
        match &self.id {
            IdType::Uuid => format!("source.{column} = {id}"),
            IdType::Text(kind) => {
                format!("source.{column} = ANY ({}::{kind}[])", spellings(id))
            }
            IdType::Cast => format!("{} = {id}", self.compared(column)),
        }
    }

    /// Condition that `column` of `source` is in `ids`, an expression of type uuid[].
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
    /// The same connections, with serving reading from `source`. Each query is planned once, so
    /// that a query with a mistake is an error here and not in every request.
    ///
    /// Likes and skips of our own tables are read by a query as well where their ids of users are
    /// text: `twotower.user_state` finds one spelling of an id, and training reads each.
    pub(crate) async fn with_source(&self, source: &Source) -> Result<Self, StoreError> {
        let mapping = source.mapping();
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
            likes: done(reading, InteractionKind::Like, mapping.likes).await?,
            skips: done(reading, InteractionKind::Skip, mapping.skips).await?,
        };
        session.commit().await?;
        if mapped.is_empty() {
            return Ok(Self {
                mapped: None,
                ..self.clone()
            });
        }
        let made = Self {
            mapped: Some(Arc::new(mapped)),
            ..self.clone()
        };
        // The statement of every request, for a user who does not exist. It shows that the queries
        // fit together, and fit what is read from our own tables.
        made.user_states(&[Uuid::nil()], 1).await?;
        Ok(made)
    }

    /// Reads what `other` reads, over these connections.
    pub(crate) fn reading_as(&self, other: &Self) -> Self {
        Self {
            mapped: other.mapped.clone(),
            ..self.clone()
        }
    }

    /// Whether likes or skips are read from another table than ours.
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

    /// The queries, if videos, tags or performers are read from other tables than ours.
    pub(super) fn mapped_catalogue(&self) -> Option<&Mapped> {
        self.mapped.as_deref().filter(|mapped| mapped.catalogue())
    }

    /// The condition that our own table has a row of `user` and `video`, expressions of type uuid.
    /// Ids of users that are text are found in each usual spelling.
    pub(super) fn is_there(&self, kind: InteractionKind, user: &str, video: &str) -> String {
        let table = kind.table();
        let own = format!(
            "EXISTS (SELECT FROM public.{table} AS old WHERE old.user_id = {user} AND old.video_id = {video})"
        );
        let mapped = self.mapped_interactions(kind);
        match mapped.filter(|query| query.id.is_text()) {
            Some(query) => format!(
                "({own} OR EXISTS (SELECT FROM {} WHERE {} AND source.video_id::uuid = {video}))",
                query.rows(),
                query.is("user_id", user)
            ),
            None => own,
        }
    }
}

/// The query for likes or skips that serving runs; `None` where it reads our own table without one.
async fn done(
    session: &mut Session,
    kind: InteractionKind,
    sql: Option<String>,
) -> Result<Option<MappedQuery>, StoreError> {
    let table = kind.table();
    let query = interactions(table);
    if sql.is_some() {
        return described(session, &query, sql).await;
    }
    let types = ids::types_of_own(session, kind).await?;
    if !types.first().is_some_and(IdType::is_text) {
        return Ok(None);
    }
    let sql = format!("SELECT user_id, video_id, created_at FROM public.{table}");
    Ok(Some(MappedQuery::new(&query, sql, types)))
}

/// A query of the source, after it was planned.
async fn described<const N: usize>(
    session: &mut Session,
    query: &Query<N>,
    sql: Option<String>,
) -> Result<Option<MappedQuery>, StoreError> {
    let Some(sql) = sql else {
        return Ok(None);
    };
    let types = ids::described(session, query, &sql).await?;
    Ok(Some(MappedQuery::new(query, sql, types)))
}
