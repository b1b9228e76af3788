//! Erasing a user, and proving that nothing of them is left.

mod files;

use super::models::retire_by;
use super::{Interrupt, JobError, Retry};
use crate::config::Erase;
use anyhow::Context;
use files::Search;
pub use files::{FoundFile, SearchedFiles};
use serde::Serialize;
use std::path::PathBuf;
use twotower_store::{ErasePlan, Erased, ModelState, SearchedRows, Source, Store, StoreError};
use uuid::Uuid;

/// What to erase, and where to look afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraseOptions {
    /// Who.
    pub user: Uuid,
    /// What is deleted.
    pub plan: ErasePlan,
    /// Where videos are read, whose ids may be the same numbers.
    pub source: Source,
    /// See [`Erase::retire_days`].
    pub retire_days: u32,
    /// Files and folders to be searched for the id afterwards, beside the database; `None` searches nothing.
    pub search: Option<Vec<PathBuf>>,
    /// Files of the database, to be searched then, too.
    pub database: Vec<PathBuf>,
    /// Tries of a call while the database is away.
    pub attempts: u32,
}

impl EraseOptions {
    /// As the configuration says.
    ///
    /// # Errors
    /// [`crate::config::ConfigError::ErasesHalf`]
    pub fn new(
        user: Uuid,
        erase: &Erase,
        source: &Source,
    ) -> Result<Self, crate::config::ConfigError> {
        Ok(Self {
            user,
            plan: erase.plan(source)?,
            source: source.clone(),
            retire_days: erase.retire_days,
            search: None,
            database: Vec::new(),
            attempts: 1,
        })
    }
}

/// A version that was trained before an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Before {
    /// Version.
    pub version: i64,
    /// Its state.
    pub state: ModelState,
    /// By when it must be replaced, microseconds since 1970.
    pub retire_by_us: i64,
}

/// What was searched, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SearchReport {
    /// Tables.
    pub rows: SearchedRows,
    /// Files.
    pub files: SearchedFiles,
}

impl SearchReport {
    /// Columns and files in which the id was found.
    pub fn places(&self) -> usize {
        self.rows.found.len() + self.files.found.len()
    }
}

/// What an erasure did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EraseReport {
    /// What was deleted.
    #[serde(flatten)]
    pub erased: Erased,
    /// Versions that may have learned from this user and are still there, ascending.
    pub models: Vec<Before>,
    /// What was found afterwards, if somebody looked.
    pub search: Option<SearchReport>,
}

/// Erases a user. Safe to cut off, and to run again: it is one transaction. An interrupt ends the search that follows it.
///
/// # Errors
/// If the store fails, and then nothing is erased; or what is to be searched cannot be read; or [`JobError::Interrupted`], when the user is erased.
pub async fn erase(
    store: &Store,
    options: &EraseOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<EraseReport> {
    let retry = Retry::new(options.attempts);
    let erased = retry
        .run("erase the user", || {
            store.erase_user(options.user, &options.plan)
        })
        .await
        .context("erase the user")?;
    let models = retry
        .run("read the registry", || {
            before(store, &erased, options.retire_days)
        })
        .await
        .context("the user is erased; read the registry")?;
    let search = match &options.search {
        None => None,
        Some(paths) => Some(
            search(store, options, paths, interrupt)
                .await
                .context("the user is erased; look for what is left")?,
        ),
    };
    Ok(EraseReport {
        erased,
        models,
        search,
    })
}

async fn before(store: &Store, erased: &Erased, days: u32) -> Result<Vec<Before>, StoreError> {
    let retire_by = retire_by(store, days).await?;
    let mut models = store.models().await?;
    models.reverse();
    let before = models.iter().filter(|record| record.is_before(erased));
    Ok(before
        .filter_map(|record| {
            Some(Before {
                version: record.version,
                state: record.state,
                // Failed and pruned ones have none.
                retire_by_us: *retire_by.get(&record.version)?,
            })
        })
        .collect())
}

async fn search(
    store: &Store,
    options: &EraseOptions,
    paths: &[PathBuf],
    interrupt: &Interrupt,
) -> anyhow::Result<SearchReport> {
    let user = options.user;
    let rows = tokio::select! {
        biased;
        () = interrupt.wait() => return Err(JobError::Interrupted.into()),
        rows = store.search_rows(user, &options.source) => rows.context("search the tables")?,
    };
    let search = Search {
        user,
        is_video: rows.is_video,
        database: options.database.clone(),
        paths: paths.to_vec(),
    };
    let interrupt = interrupt.clone();
    let files = tokio::task::spawn_blocking(move || files::search(&search, &interrupt));
    Ok(SearchReport {
        rows,
        files: files.await??,
    })
}
