use super::background::Panicked;
use super::videos::{Videos, VideosBuilder};
use super::{Catalogue, LoadedModel, Popularity, background};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use thiserror::Error;
use twotower_core::embedding::Embeddings;
use twotower_core::index::{AttributesError, Index, IndexError, IndexOptions};
use twotower_core::tower::UserTower;
use twotower_store::model_files::{self, ModelFilesError};
use twotower_store::{ModelRecord, Store, StoreError, StoreTime, VectorTable};
use uuid::Uuid;

/// Why no view could be loaded.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    /// The database did not answer, and may at the next attempt; or it refused.
    #[error("read from the database: {0}")]
    Store(StoreError),
    /// A row of the version's vectors is not a valid vector.
    #[error("read the vectors of model version {version}: {cause}")]
    Vector {
        version: i64,
        cause: Box<StoreError>,
    },
    /// The version's folder is missing or damaged.
    #[error("load model version {version} from {path}: {cause}")]
    Files {
        version: i64,
        path: PathBuf,
        cause: Box<ModelFilesError>,
    },
    /// The folder holds another version than its name says.
    #[error("the folder of model version {version} holds version {found}")]
    Version { version: i64, found: i64 },
    /// The folder holds another model with the same number as the registered one: its user tower
    /// does not match the vectors.
    #[error(
        "{path} is another model than the registered version {version}: its manifest has checksum {files}, the registry {record}"
    )]
    OtherModel {
        version: i64,
        path: PathBuf,
        files: String,
        record: String,
    },
    /// Model files and database disagree on the dimension.
    #[error(
        "model version {version} has {files} dimensions in its files and {record} in the database"
    )]
    Dimension {
        version: i64,
        files: usize,
        record: usize,
    },
    /// The version is to be served, but has no vectors.
    #[error("model version {version} is to be served and has no video vectors")]
    NoVectors { version: i64 },
    /// A defect of twotower.
    #[error("the loading task failed: {0}")]
    Task(tokio::task::JoinError),
    /// A defect of twotower.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// A defect of twotower: index and attributes do not match.
    #[error("build the index: {0}")]
    Index(IndexError),
    /// A defect of twotower: columns do not match.
    #[error("describe the catalogue: {0}")]
    Attributes(AttributesError),
}

impl From<StoreError> for LoadError {
    fn from(cause: StoreError) -> Self {
        Self::Store(cause)
    }
}

impl From<tokio::task::JoinError> for LoadError {
    fn from(cause: tokio::task::JoinError) -> Self {
        Self::Task(cause)
    }
}

impl From<IndexError> for LoadError {
    fn from(cause: IndexError) -> Self {
        Self::Index(cause)
    }
}

impl From<AttributesError> for LoadError {
    fn from(cause: AttributesError) -> Self {
        Self::Attributes(cause)
    }
}

/// The use of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The active version.
    Active,
    /// The challenger of an experiment.
    Challenger,
}

impl Role {
    fn name(self, version: i64) -> String {
        match self {
            Self::Active => format!("the active model version {version}"),
            Self::Challenger => format!("model version {version}, the challenger,"),
        }
    }

    /// The fix if the version itself cannot be loaded.
    fn way_out(self) -> &'static str {
        match self {
            Self::Active => "make a version active whose files are here with `twotower rollback`",
            Self::Challenger => "end the experiment with `twotower experiment stop`",
        }
    }
}

impl LoadError {
    /// Converts an error of reading the vectors of `version`.
    pub(super) fn of_vectors(version: i64) -> impl Fn(StoreError) -> Self {
        move |error| match error {
            cause @ StoreError::Vector { .. } => Self::Vector {
                version,
                cause: Box::new(cause),
            },
            error => Self::Store(error),
        }
    }

    /// Whether the database was unreachable or busy, so that nothing needs to be repaired here.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// The text for readiness, with the fix. It has neither paths nor messages of the database.
    pub(super) fn advice(&self, role: Role) -> String {
        let way_out = role.way_out();
        match self {
            Self::Store(error) if error.is_transient() => {
                "the database did not answer while loading; retrying".into()
            }
            Self::Store(StoreError::Schema(_)) => {
                "the database lacks what is to be loaded: run `twotower migrate`".into()
            }
            Self::Store(StoreError::Permission(_)) => {
                "the database role may not read what is to be loaded: grant it, `twotower doctor` says what".into()
            }
            Self::Store(_) => {
                "what is to be loaded cannot be read from the database: see the log, and run `twotower doctor`".into()
            }
            Self::Vector { version, .. } => format!(
                "vectors of model version {version} in the database are none (NaN, a norm that is not 1, another dimension), and none is read \
                 before all are good: compute them again with `twotower update --model-path models/{version} --full`"
            ),
            Self::Files { version, .. } => format!(
                "the files of {} are missing or damaged: copy its folder to --model-path, or {way_out}",
                role.name(*version)
            ),
            Self::Version { version, found } => format!(
                "the folder of {} holds version {found}: copy the right folder to --model-path, or {way_out}",
                role.name(*version)
            ),
            Self::OtherModel { version, .. } => format!(
                "the folder of model version {version} holds another model than the one registered: move it away and copy the registered \
                 model's folder to --model-path, or {way_out}"
            ),
            Self::Dimension { version, .. } => format!(
                "the files of model version {version} and its vectors in the database differ in dimension: \
                 copy the right folder to --model-path, or {way_out}"
            ),
            Self::NoVectors { version } => format!(
                "{} has no video vectors: write them with `twotower update`",
                role.name(*version)
            ),
            Self::Task(_) | Self::Panicked(_) | Self::Index(_) | Self::Attributes(_) => {
                "loading failed; see the log".into()
            }
        }
    }
}

/// A user tower and its vectors, as read.
pub(super) struct Vectors {
    pub(super) version: i64,
    pub(super) manifest_sha256: Arc<str>,
    pub(super) user_tower: Arc<UserTower>,
    /// Ascending.
    pub(super) ids: Vec<Uuid>,
    pub(super) rows: Arc<Embeddings>,
    pub(super) read_at: StoreTime,
    pub(super) stamp: (i64, i64),
}

/// Reads the user tower from the version's files, unless `held` is that of the same model, and the
/// vectors of videos from the database.
pub(super) async fn vectors(
    store: &Store,
    models: &Path,
    record: &ModelRecord,
    held: Option<Arc<UserTower>>,
) -> Result<Vectors, LoadError> {
    let user_tower = match held {
        Some(held) => held,
        None => Arc::new(user_tower(models, record).await?),
    };
    // Time and stamp are read first, so that a vector written in between counts as a change at the
    // next look.
    let read_at = store.time().await?;
    let stamp = store
        .vectors_stamp(VectorTable::Videos, record.version)
        .await?;
    let (ids, rows) = store
        .read_embeddings(VectorTable::Videos, record.version, record.embedding_dim)
        .await
        .map_err(LoadError::of_vectors(record.version))?;
    if ids.is_empty() {
        return Err(LoadError::NoVectors {
            version: record.version,
        });
    }
    Ok(Vectors {
        version: record.version,
        manifest_sha256: record.manifest_sha256.as_str().into(),
        user_tower,
        ids,
        rows: Arc::new(rows),
        read_at,
        stamp,
    })
}

async fn user_tower(models: &Path, record: &ModelRecord) -> Result<UserTower, LoadError> {
    let version = record.version;
    let path = models.join(version.to_string());
    let folder = path.clone();
    let loaded = tokio::task::spawn_blocking(move || model_files::load_user_tower(&folder)).await?;
    let (user_tower, manifest) = match loaded {
        Ok(loaded) => loaded,
        Err(cause) => {
            return Err(LoadError::Files {
                version,
                path,
                cause: Box::new(cause),
            });
        }
    };
    if manifest.version != version {
        return Err(LoadError::Version {
            version,
            found: manifest.version,
        });
    }
    if manifest.checksum != record.manifest_sha256 {
        return Err(LoadError::OtherModel {
            version,
            path,
            files: manifest.checksum,
            record: record.manifest_sha256.clone(),
        });
    }
    if user_tower.dim() != record.embedding_dim {
        return Err(LoadError::Dimension {
            version,
            files: user_tower.dim(),
            record: record.embedding_dim,
        });
    }
    Ok(user_tower)
}

/// Reads the facts of the videos `wanted`, ascending, or of all videos if `None`.
pub(super) async fn videos(
    store: &Store,
    wanted: Option<Vec<Uuid>>,
    catalogue: Catalogue,
) -> Result<Videos, LoadError> {
    let mut builder = VideosBuilder::new(wanted, catalogue);
    store
        .for_each_video_facts(&mut |facts| builder.push(&facts))
        .await?;
    Ok(background::run(move || builder.finish()).await??)
}

/// Counts the likes of each of `videos`.
pub(super) async fn popularity(store: &Store, videos: &Videos) -> Result<Popularity, LoadError> {
    let mut likes = vec![0; videos.len()];
    for (video, count) in store.like_counts().await? {
        if let Some(position) = videos.position(video) {
            likes[position as usize] = u32::try_from(count).unwrap_or(u32::MAX);
        }
    }
    Ok(background::run(move || Popularity::new(likes)).await?)
}

/// Builds the index of `vectors`, which are those of `videos`.
pub(super) async fn index(vectors: Vectors, videos: &Videos) -> Result<LoadedModel, LoadError> {
    let attributes = videos.attributes().clone();
    let rows = vectors.rows;
    let index = background::run(move || Index::new(rows, attributes, &IndexOptions::default()));
    Ok(LoadedModel {
        version: vectors.version,
        manifest_sha256: vectors.manifest_sha256,
        user_tower: vectors.user_tower,
        index: index.await??,
        read_at_us: AtomicI64::new(vectors.read_at.us()),
        stamp: vectors.stamp,
    })
}
