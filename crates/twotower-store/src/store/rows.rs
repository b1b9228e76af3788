use std::time::Duration;
use uuid::Uuid;

/// Limits on the connection to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Timeout for getting a connection.
    pub acquire_timeout: Duration,
    /// Statement timeout on the server; bulk work sets its own.
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
    /// The same with a statement timeout of at most `limit`.
    #[must_use]
    pub fn hurried(self, limit: Duration) -> Self {
        Self {
            statement_timeout: self.statement_timeout.min(limit),
            ..self
        }
    }
}

/// Connections of a store at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Idle connections.
    pub idle: usize,
    /// Connections in use.
    pub busy: usize,
}

/// Engine of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// PostgreSQL with pgvector.
    Postgres,
    /// Embedded SQLite.
    Sqlite,
}

/// Kind of interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InteractionKind {
    /// Table `likes`.
    Like,
    /// Table `skips`.
    Skip,
}

/// A like or skip to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InteractionRow {
    /// User.
    pub user: Uuid,
    /// Video.
    pub video: Uuid,
    /// Time, microseconds since 1970 (UTC).
    pub at_us: i64,
}

/// Outcome of writing videos.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VideosWritten {
    /// New rows.
    pub inserted: u64,
    /// Rows whose content changed.
    pub updated: u64,
}

/// Numbers of rows in the application's tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of videos.
    pub videos: u64,
    /// Number of likes.
    pub likes: u64,
    /// Number of skips.
    pub skips: u64,
    /// Number of users with at least one like or skip.
    pub users: u64,
}

/// Kind of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorTable {
    /// `video_embeddings`
    Videos,
    /// `user_embeddings`
    Users,
}

/// A vector to write.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingRow<'a> {
    /// Video or user.
    pub id: Uuid,
    /// Hash of the vector's inputs; with an equal hash the vector need not be recomputed.
    pub fingerprint: i64,
    /// Finite, unit norm.
    pub vector: &'a [f32],
}

/// Number of vectors of one version, and of faulty ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VectorSummary {
    /// All of them.
    pub rows: u64,
    /// Vectors of another dimension.
    pub wrong_dimension: u64,
    /// Vectors with NaN or infinity.
    pub not_finite: u64,
    /// Finite vectors whose norm is outside 1 ± 0.001.
    pub wrong_norm: u64,
}

/// An HNSW index to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPlan {
    /// Version of its vectors.
    pub version: i64,
    /// Their dimension.
    pub dim: usize,
    /// Number of vectors, which determines the memory.
    pub rows: u64,
    /// Maximum memory for the build, megabytes. With too little, the build is slow.
    pub memory_cap_mb: u64,
}

/// Outcome of building an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexOutcome {
    /// The index existed already.
    Present,
    /// The index was built.
    Built {
        /// The server's `maintenance_work_mem` during the build.
        memory: String,
    },
    /// The engine has no such index.
    None,
}

/// Likes and skips of a user, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserHistory {
    /// Liked videos.
    pub likes: Vec<Uuid>,
    /// Skipped videos.
    pub skips: Vec<Uuid>,
}

/// Fields of a video for display.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoCard {
    /// Id of the video.
    pub id: Uuid,
    /// Title.
    pub title: String,
    /// Genre.
    pub genre: Option<String>,
    /// Maker.
    pub maker: Option<String>,
    /// Price in the application's currency.
    pub price: Option<f32>,
    /// Duration, seconds.
    pub duration_seconds: Option<f32>,
    /// URL of the thumbnail.
    pub thumbnail_url: Option<String>,
    /// Names of tags, ascending.
    pub tags: Vec<String>,
}

/// When a user was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// User.
    pub user: Uuid,
    /// Time of the latest like, microseconds since 1970.
    pub like_us: Option<i64>,
    /// Time of the latest like or skip, microseconds since 1970.
    pub at_us: i64,
}

/// Number and age of a version's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorAge {
    /// Version number.
    pub version: i64,
    /// Number of vectors.
    pub rows: u64,
    /// Time since the latest was written, by the store's clock; zero if that is in the future.
    pub age: Duration,
    /// The same without future times, which a clock that was set back leaves behind.
    pub known_age: Option<Duration>,
}

/// A time by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTime {
    us: i64,
}

/// A user and how active they are.
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

    /// The time this much earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_us(self.us.saturating_sub(span))
    }
}

impl InteractionKind {
    /// Name of the table, as in errors.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Like => "likes",
            Self::Skip => "skips",
        }
    }
}

impl VectorTable {
    /// Both tables.
    pub(crate) const ALL: [Self; 2] = [Self::Videos, Self::Users];

    /// Name of the table, as in errors and backups.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Videos => "video_embeddings",
            Self::Users => "user_embeddings",
        }
    }

    /// Name of the column that holds the id of the video or user.
    pub(crate) fn id_column(self) -> &'static str {
        match self {
            Self::Videos => "video_id",
            Self::Users => "user_id",
        }
    }
}
