//! The way to a database.

use super::{ConnectOptions, Engine, Store, redact};
use crate::StoreError;
use crate::postgres::Postgres;
use crate::sqlite::{Missing, Sqlite};

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
