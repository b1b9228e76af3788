use std::time::Duration;
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

impl InteractionKind {
    /// Name of the table, as errors say it.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Like => "likes",
            Self::Skip => "skips",
        }
    }
}

impl VectorTable {
    /// Name of the table, as errors say it.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Videos => "video_embeddings",
            Self::Users => "user_embeddings",
        }
    }
}
