//! Erases a user, and verifies that nothing of the user is left.

mod files;

use super::Retry;
use super::models::retire_by;
use crate::config::Erase;
use crate::interrupt::Interrupt;
use anyhow::Context;
use files::Search;
pub(crate) use files::SearchedFiles;
use serde::Serialize;
use std::path::PathBuf;
use twotower_store::{ErasePlan, Erased, ModelState, SearchedRows, Source, Store, StoreError};
use uuid::Uuid;

/// Options of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EraseOptions {
    /// The user.
    pub(crate) user: Uuid,
    /// Rows to delete, and statements to run.
    pub(crate) plan: ErasePlan,
    /// Source of videos. A video may have the same id as the user.
    pub(crate) source: Source,
    /// See [`Erase::retire_days`].
    pub(crate) retire_days: u32,
    /// Files and folders to search for the id afterwards, besides the database; `None` searches
    /// nothing.
    pub(crate) search: Option<Vec<PathBuf>>,
    /// Files of the database, which are searched as well.
    pub(crate) database: Vec<PathBuf>,
    /// Attempts of a call while the database is away.
    pub(crate) attempts: u32,
}

impl EraseOptions {
    /// Options from the configuration.
    ///
    /// # Errors
    /// [`crate::config::ConfigError::ErasesHalf`]
    pub(crate) fn new(
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
pub(crate) struct Before {
    /// Version of the model.
    pub(crate) version: i64,
    /// State of the version.
    pub(crate) state: ModelState,
    /// Time by which the version must be replaced, microseconds since 1970.
    pub(crate) retire_by_us: i64,
}

/// Places that were searched, and findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SearchReport {
    /// Search of the tables.
    pub(crate) rows: SearchedRows,
    /// Search of the files.
    pub(crate) files: SearchedFiles,
}

impl SearchReport {
    /// Number of columns and files in which the id was found.
    pub(crate) fn places(&self) -> usize {
        self.rows.found.len() + self.files.found.len()
    }
}

/// Results of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EraseReport {
    /// Deleted rows.
    #[serde(flatten)]
    pub(crate) erased: Erased,
    /// Existing versions that may have learned from this user, ascending.
    pub(crate) models: Vec<Before>,
    /// Findings of the search, if there was one.
    pub(crate) search: Option<SearchReport>,
}

/// Erases a user. Safe to interrupt and to run again: the erasure is one transaction. An interrupt
/// ends only the search that follows.
///
/// # Errors
/// If the store fails, nothing is erased. If a path cannot be searched, or
/// [`crate::jobs::JobError::Interrupted`], the user is erased already.
pub(crate) async fn erase(
    store: &Store,
    options: &EraseOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<EraseReport> {
    let retry = Retry::new(options.attempts);
    let erased = retry
        .call("erase the user", || {
            store.erase_user(options.user, &options.plan)
        })
        .await?;
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
                // Failed and pruned versions have no vectors.
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
    let rows = interrupt.cut(store.search_rows(user, &options.source));
    let rows = rows.await?.context("search the tables")?;
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
