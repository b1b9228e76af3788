use crate::{ModelRecord, ModelState, NewModel, Snapshot, SnapshotOptions, Source, StoreError};
use std::time::Duration;
use twotower_core::embedding::Embeddings;
use twotower_core::feature::Video;
use uuid::Uuid;

/// Limits on the connection to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Most connections held at once.
    pub max_connections: u32,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
    /// How long one statement may take on the server; bulk work sets its own.
    pub statement_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            max_connections: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

/// Which engine is behind a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// PostgreSQL with pgvector.
    Postgres,
    /// Embedded SQLite.
    Sqlite,
}

/// Likes or skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InteractionKind {
    /// Table `likes`.
    Like,
    /// Table `skips`.
    Skip,
}

/// One like or skip to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InteractionRow {
    /// Who.
    pub user: Uuid,
    /// What.
    pub video: Uuid,
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
}

/// Outcome of writing videos.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VideosWritten {
    /// Rows that were not there before.
    pub inserted: u64,
    /// Rows whose content changed.
    pub updated: u64,
}

/// Rows in the application's tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Videos.
    pub videos: u64,
    /// Likes.
    pub likes: u64,
    /// Skips.
    pub skips: u64,
    /// Users with at least one like or skip.
    pub users: u64,
}

/// Which vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorTable {
    /// `video_embeddings`
    Videos,
    /// `user_embeddings`
    Users,
}

/// One vector to be written.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingRow<'a> {
    /// Video or user.
    pub id: Uuid,
    /// Hash of what the vector was computed from; equal hashes need no new vector.
    pub fingerprint: i64,
    /// Finite, unit norm.
    pub vector: &'a [f32],
}

/// What a user did, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserHistory {
    /// Liked videos.
    pub likes: Vec<Uuid>,
    /// Skipped videos.
    pub skips: Vec<Uuid>,
}

/// What a card shows of a video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoCard {
    /// Video.
    pub id: Uuid,
    /// Title.
    pub title: String,
    /// Genre.
    pub genre: Option<String>,
    /// Maker.
    pub maker: Option<String>,
    /// Price in the application's currency.
    pub price: Option<f32>,
    /// Length in seconds.
    pub duration_seconds: Option<f32>,
    /// Address of a preview picture.
    pub thumbnail_url: Option<String>,
    /// Names of tags, ascending.
    pub tags: Vec<String>,
}

/// A user and how much they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserActivity {
    /// User.
    pub user: Uuid,
    /// Number of likes.
    pub likes: u64,
}

/// A database. Cheap to clone: clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {}

#[expect(
    unused_variables,
    clippy::unused_async,
    reason = "signatures, agreed on before the bodies are written"
)]
#[allow(missing_docs)]
impl Store {
    /// Opens `postgresql://…` or `sqlite://path` (the file is created if missing).
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        unimplemented!()
    }
    pub fn kind(&self) -> StoreKind {
        unimplemented!()
    }
    /// Cheap round trip; for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Applies what is missing of the schema; returns the versions applied. Safe to run at any time, also twice at once.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }
    /// Versions of migrations not yet applied.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        unimplemented!()
    }

    /// Upserts videos with their tags and performers, one transaction a call.
    pub async fn write_videos(&self, videos: &[Video]) -> Result<VideosWritten, StoreError> {
        unimplemented!()
    }
    /// Inserts likes or skips that are not there yet; returns how many were new. One transaction a call.
    pub async fn write_interactions(
        &self,
        kind: InteractionKind,
        rows: &[InteractionRow],
    ) -> Result<u64, StoreError> {
        unimplemented!()
    }

    pub async fn read_snapshot(
        &self,
        source: &Source,
        options: SnapshotOptions,
    ) -> Result<Snapshot, StoreError> {
        unimplemented!()
    }

    pub async fn next_model_version(&self) -> Result<i64, StoreError> {
        unimplemented!()
    }
    /// Registers a version in state `loading`; again for the same version is allowed while it is not active.
    pub async fn register_model(&self, model: &NewModel) -> Result<(), StoreError> {
        unimplemented!()
    }
    pub async fn set_model_state(&self, version: i64, state: ModelState) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Makes `version` the one that readers see and retires the previous one, in one transaction.
    pub async fn activate_model(&self, version: i64, reason: &str) -> Result<(), StoreError> {
        unimplemented!()
    }
    pub async fn active_model(&self) -> Result<Option<ModelRecord>, StoreError> {
        unimplemented!()
    }
    pub async fn models(&self) -> Result<Vec<ModelRecord>, StoreError> {
        unimplemented!()
    }

    /// (id, fingerprint) of every vector of `version`, ascending by id.
    pub async fn read_fingerprints(
        &self,
        table: VectorTable,
        version: i64,
    ) -> Result<Vec<(Uuid, i64)>, StoreError> {
        unimplemented!()
    }
    /// Upserts vectors of `version`, one transaction a call.
    pub async fn write_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        rows: &[EmbeddingRow<'_>],
    ) -> Result<(), StoreError> {
        unimplemented!()
    }
    pub async fn delete_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        ids: &[Uuid],
    ) -> Result<u64, StoreError> {
        unimplemented!()
    }
    /// All vectors of `version` with their ids ascending.
    pub async fn read_embeddings(
        &self,
        table: VectorTable,
        version: i64,
        dim: usize,
    ) -> Result<(Vec<Uuid>, Embeddings), StoreError> {
        unimplemented!()
    }

    /// The latest `limit` likes and the latest `limit` skips of a user, oldest first.
    pub async fn user_history(&self, user: Uuid, limit: u32) -> Result<UserHistory, StoreError> {
        unimplemented!()
    }
    /// Every video the user has ever liked, in no order: what must not come back.
    pub async fn liked_videos(&self, user: Uuid) -> Result<Vec<Uuid>, StoreError> {
        unimplemented!()
    }
    /// Number of likes per video, for videos with at least one.
    pub async fn like_counts(&self) -> Result<Vec<(Uuid, u64)>, StoreError> {
        unimplemented!()
    }
    /// Titles of all videos, ascending by id.
    pub async fn video_titles(&self) -> Result<Vec<(Uuid, String)>, StoreError> {
        unimplemented!()
    }
    /// Cards of `ids`, in the order given; unknown ids are left out.
    pub async fn video_cards(&self, ids: &[Uuid]) -> Result<Vec<VideoCard>, StoreError> {
        unimplemented!()
    }
    /// Some users, the most active first, for the console's try-out.
    pub async fn active_users(&self, limit: u32) -> Result<Vec<UserActivity>, StoreError> {
        unimplemented!()
    }
    /// Records one like or skip of now by the store's clock; returns whether it was new. `Ok(false)` also if it was there.
    /// An unknown video is `StoreError::UnknownVideo`.
    pub async fn record(
        &self,
        kind: InteractionKind,
        user: Uuid,
        video: Uuid,
    ) -> Result<bool, StoreError> {
        unimplemented!()
    }
}
