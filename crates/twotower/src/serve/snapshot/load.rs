use super::{LoadedModel, Snapshot};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use twotower_core::tower::UserTower;
use twotower_store::model_files::{self, ModelFilesError};
use twotower_store::{ModelRecord, Store, StoreError, VectorTable};
use uuid::Uuid;

/// Why no view could be made.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    /// The database did not answer; it may at the next attempt.
    #[error("read from the database: {0}")]
    Store(#[from] StoreError),
    /// The active version's folder is missing or damaged.
    #[error("load model version {version} from {path}: {source}")]
    Files {
        version: i64,
        path: PathBuf,
        source: ModelFilesError,
    },
    /// The folder holds another model than its name says.
    #[error("the folder of model version {active} holds version {found}")]
    Version { active: i64, found: i64 },
    /// Model files and database disagree on d.
    #[error(
        "model version {version} has {files} dimensions in its files and {record} in the database"
    )]
    Dimension {
        version: i64,
        files: usize,
        record: usize,
    },
    /// The version is active without vectors.
    #[error("model version {version} is active and has no video vectors")]
    NoVectors { version: i64 },
    /// A defect of ours.
    #[error("the loading task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl LoadError {
    /// What readiness says, with the fix: neither paths nor messages of the database.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::Store(_) => "the database did not answer while loading; retrying".into(),
            Self::Files { version, .. } => format!(
                "the files of the active model version {version} are missing or damaged: copy its folder to --model-path, \
                 or make a version active whose files are here with `twotower rollback`"
            ),
            Self::Version { active, found } => format!(
                "the folder of the active model version {active} holds version {found}: copy the right folder to --model-path"
            ),
            Self::Dimension { version, .. } => format!(
                "the files of model version {version} and its vectors in the database differ in dimension: \
                 copy the right folder to --model-path, or run `twotower rollback`"
            ),
            Self::NoVectors { version } => format!(
                "the active model version {version} has no video vectors: write them with `twotower update`"
            ),
            Self::Task(_) => "loading failed; see the log".into(),
        }
    }
}

/// Reads the user tower from the files of the active version and the videos' vectors from the database.
pub(super) async fn model(
    store: &Store,
    models: &Path,
    record: &ModelRecord,
) -> Result<LoadedModel, LoadError> {
    let user_tower = user_tower(models, record).await?;
    // Fingerprints first: a vector written in between is then seen as a change by the next look.
    let fingerprints = store
        .read_fingerprints(VectorTable::Videos, record.version)
        .await?;
    let (ids, vectors) = store
        .read_embeddings(VectorTable::Videos, record.version, record.embedding_dim)
        .await?;
    if ids.is_empty() {
        return Err(LoadError::NoVectors {
            version: record.version,
        });
    }
    Ok(LoadedModel {
        version: record.version,
        user_tower,
        vectors,
        ids: ids.into(),
        fingerprints,
    })
}

async fn user_tower(models: &Path, record: &ModelRecord) -> Result<UserTower, LoadError> {
    let version = record.version;
    let path = models.join(version.to_string());
    let folder = path.clone();
    let (model, manifest) = tokio::task::spawn_blocking(move || model_files::load(&folder))
        .await?
        .map_err(|source| LoadError::Files {
            version,
            path,
            source,
        })?;
    if manifest.version != version {
        return Err(LoadError::Version {
            active: version,
            found: manifest.version,
        });
    }
    if model.user_tower.dim() != record.embedding_dim {
        return Err(LoadError::Dimension {
            version,
            files: model.user_tower.dim(),
            record: record.embedding_dim,
        });
    }
    Ok(model.user_tower)
}

/// Whether the vectors of `model` are still those of the database.
pub(super) async fn vectors_unchanged(
    store: &Store,
    model: &LoadedModel,
) -> Result<bool, LoadError> {
    let now = store
        .read_fingerprints(VectorTable::Videos, model.version)
        .await?;
    Ok(now == model.fingerprints)
}

/// Joins titles and like counts to the videos of `model`, or to all videos without one.
pub(super) async fn snapshot(
    store: &Store,
    model: Option<Arc<LoadedModel>>,
) -> Result<Snapshot, LoadError> {
    let mut rows = store.video_titles().await?;
    let like_counts: HashMap<Uuid, u64> = store.like_counts().await?.into_iter().collect();
    let videos: Arc<[Uuid]> = match &model {
        Some(model) => Arc::clone(&model.ids),
        None => rows.iter().map(|(id, _)| *id).collect(),
    };
    let mut titles = Vec::with_capacity(videos.len());
    let mut delisted = Vec::new();
    for (video, position) in videos.iter().zip(0u32..) {
        if let Ok(row) = rows.binary_search_by_key(video, |(id, _)| *id) {
            titles.push(std::mem::take(&mut rows[row].1));
        } else {
            titles.push(String::new());
            delisted.push(position);
        }
    }
    let likes_of = |video: &Uuid| like_counts.get(video).copied().unwrap_or(0) as f32;
    Ok(Snapshot {
        like_counts: videos.iter().map(likes_of).collect(),
        model,
        videos,
        titles,
        delisted,
    })
}
