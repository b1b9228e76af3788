//! The way to a database.

use super::{ConnectOptions, Engine, Store, redact};
use crate::postgres::Postgres;
use crate::sqlite::{Missing, Sqlite};
use crate::{InteractionKind, Source, StoreError};

#[expect(
    clippy::missing_errors_doc,
    reason = "fails with what `StoreError` lists, for the reasons written there"
)]
impl Store {
    /// Opens `postgresql://…` or `sqlite://path` (the file is created if missing; `sqlite::memory:` keeps none).
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        Self::connect_or(url, options, Missing::Create).await
    }

    /// Opens as [`Store::connect`] does, but makes no file: one that does not exist is [`StoreError::NoFile`]. For whoever has nothing to do in
    /// an empty database.
    pub async fn connect_existing(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        Self::connect_or(url, options, Missing::Refuse).await
    }

    /// The same connections for a server: what it asks of videos, likes and skips is read where `source` says, and by itself this changes
    /// nothing for jobs, which are given a source. What `source` does not map is read from our own tables as before.
    ///
    /// Each query is tried, so that one which cannot be run is [`StoreError::Source`] now and no error of every request. Likes and skips that
    /// are read from other tables are never written: [`StoreError::ReadElsewhere`].
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

    /// Whether likes or skips are read from a table of the application's own, so that nobody tells of changes to them and they are not
    /// written here.
    pub fn reads_elsewhere(&self, kind: InteractionKind) -> bool {
        match &self.engine {
            Engine::Postgres(engine) => engine.reads_elsewhere(kind),
            Engine::Sqlite(engine) => engine.reads_elsewhere(kind),
        }
    }

    /// Refuses to write what nobody would read.
    pub(super) fn refuse_elsewhere(&self, kind: InteractionKind) -> Result<(), StoreError> {
        if self.reads_elsewhere(kind) {
            Err(StoreError::ReadElsewhere(kind))
        } else {
            Ok(())
        }
    }

    /// Over the connections of `replica`, what this store reads.
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
