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

impl ConnectOptions {
    /// The same for those who wait for `limit` and no longer.
    #[must_use]
    pub fn hurried(self, limit: Duration) -> Self {
        Self {
            statement_timeout: self.statement_timeout.min(limit),
            ..self
        }
    }
}

/// Connections of a store, as of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Open and without work.
    pub idle: usize,
    /// At work.
    pub busy: usize,
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

/// Vectors of one version, and those that must not be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VectorSummary {
    /// All of them.
    pub rows: u64,
    /// Those of another dimension.
    pub wrong_dimension: u64,
    /// Those with NaN or infinity in them.
    pub not_finite: u64,
    /// Finite ones whose norm is not within 1 ± 0.001.
    pub wrong_norm: u64,
}

/// An HNSW index to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPlan {
    /// Version whose vectors it holds.
    pub version: i64,
    /// Their dimension.
    pub dim: usize,
    /// Their number, of which the memory follows.
    pub rows: u64,
    /// Most memory to build it in, megabytes. In less than it needs it is built all the same, but slowly.
    pub memory_cap_mb: u64,
}

/// What came of building an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexOutcome {
    /// It was there.
    Present,
    /// It was built.
    Built {
        /// The server's `maintenance_work_mem` while building.
        memory: String,
    },
    /// The engine has no such index.
    None,
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

/// When a user was there last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// User.
    pub user: Uuid,
    /// Time of the latest like, microseconds since 1970.
    pub like_us: Option<i64>,
    /// Time of the latest like or skip, microseconds since 1970.
    pub at_us: i64,
}

/// The vectors of a version, and how old they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorAge {
    /// Version.
    pub version: i64,
    /// Their number.
    pub rows: u64,
    /// Since the last of them was written, by the store's clock; none at all where that is yet to come.
    pub age: Duration,
    /// The same of those whose time has come: a clock that was set back leaves others behind, which say nothing of when.
    pub known_age: Option<Duration>,
}

/// A moment by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTime {
    us: i64,
}

/// A user and how much they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserActivity {
    /// User.
    pub user: Uuid,
    /// Number of likes.
    pub likes: u64,
}

impl From<(i64, i64, i64, i64)> for Counts {
    /// In the order of its fields.
    fn from((videos, likes, skips, users): (i64, i64, i64, i64)) -> Self {
        Self {
            videos: videos as u64,
            likes: likes as u64,
            skips: skips as u64,
            users: users as u64,
        }
    }
}

impl StoreTime {
    /// From microseconds since 1970, UTC.
    pub fn from_us(us: i64) -> Self {
        Self { us }
    }

    /// Microseconds since 1970, UTC.
    pub fn us(self) -> i64 {
        self.us
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_us(self.us.saturating_sub(span))
    }
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
