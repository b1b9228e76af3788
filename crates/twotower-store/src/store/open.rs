//! Connecting to a database.

use super::{ConnectOptions, Engine, Store, redact};
use crate::postgres::Postgres;
use crate::sqlite::{Missing, Sqlite};
use crate::{InteractionKind, Source, StoreError};

#[expect(
    clippy::missing_errors_doc,
    reason = "fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Opens `postgresql://…` or `sqlite://path` (a missing file is created; `sqlite::memory:` is
    /// not persistent).
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        Self::connect_or(url, options, Missing::Create).await
    }

    /// Like [`Store::connect`], but creates no file: a missing one is [`StoreError::NoFile`]. For
    /// operations that make no sense on an empty database.
    pub async fn connect_existing(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        Self::connect_or(url, options, Missing::Refuse).await
    }

    /// The same connections for a server that reads videos, likes and skips from `source`. Jobs are
    /// not affected: they are given a source with each call. What `source` does not map is read
    /// from our own tables.
    ///
    /// Each query is checked, so that an invalid one is [`StoreError::Source`] here rather than an
    /// error of every request. Likes and skips that are read from other tables are never written:
    /// [`StoreError::ReadElsewhere`].
    pub async fn with_source(&self, source: &Source) -> Result<Self, StoreError> {
        let engine = match &self.engine {
            Engine::Postgres(engine) => Engine::Postgres(engine.with_source(source).await?),
            Engine::Sqlite(engine) => Engine::Sqlite(engine.with_source(source).await?),
        };
        Ok(Self {
            engine,
            ..self.clone()
        })
    }

    /// Whether likes or skips are read from a table of the application's own. Changes to it are not
    /// notified, and it is not written here.
    pub fn reads_elsewhere(&self, kind: InteractionKind) -> bool {
        match &self.engine {
            Engine::Postgres(engine) => engine.reads_elsewhere(kind),
            Engine::Sqlite(engine) => engine.reads_elsewhere(kind),
        }
    }

    /// Refuses to write rows that would not be read.
    pub(super) fn refuse_elsewhere(&self, kind: InteractionKind) -> Result<(), StoreError> {
        if self.reads_elsewhere(kind) {
            Err(StoreError::ReadElsewhere(kind))
        } else {
            Ok(())
        }
    }

    /// The sources of this store over the connections of `replica`.
    pub(crate) fn read_on(&self, replica: &Postgres) -> Postgres {
        match &self.engine {
            Engine::Postgres(engine) => replica.reading_as(engine),
            Engine::Sqlite(_) => replica.clone(),
        }
    }

    async fn connect_or(
        url: &str,
        options: ConnectOptions,
        missing: Missing,
    ) -> Result<Self, StoreError> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let engine = match scheme {
            "postgresql" | "postgres" => Engine::Postgres(Postgres::connect(url, options).await?),
            "sqlite" => Engine::Sqlite(Sqlite::connect(url, options, missing).await?),
            _ => return Err(StoreError::Url(redact(url))),
        };
        Ok(Self {
            engine,
            options,
            lease: None,
        })
    }
}
