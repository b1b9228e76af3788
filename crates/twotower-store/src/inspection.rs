//! What a database reports about itself, for health checks. No row of a user is part of it.

use serde::Serialize;

/// The server behind a connection, and the path to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// Version as the server spells it, for example `17.4`.
    pub version: String,
    /// Version number, for example 170004.
    pub version_number: i32,
    /// Installed version of pgvector in this database.
    pub vector: Option<String>,
    /// Version of pgvector that can be installed.
    pub vector_available: Option<String>,
    /// Current client connections to all databases of the server.
    pub connections: i64,
    /// Maximum number of connections, including those reserved for superusers.
    pub max_connections: i64,
    /// How the connection is protected.
    pub transport: Transport,
    /// Port on which the server listens; none for a socket.
    pub port: Option<i32>,
}

/// Protection of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transport {
    /// Host of the address.
    pub host: String,
    /// Whether the host is this machine.
    pub local: bool,
    /// Whether the server sees the connection as encrypted. A pooler in between can differ.
    pub encrypted: Option<bool>,
    /// Whether the server's certificate and name are verified.
    pub verified: Verification,
}

/// How far a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Not at all.
    None,
    /// Its issuer.
    Authority,
    /// Its issuer and its host name.
    Host,
}

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooler {
    /// Nothing.
    None,
    /// A proxy with one server connection per client: a pooler in session mode, or a forwarded
    /// port.
    Session,
    /// A pooler in transaction mode.
    Transaction,
}

/// Differences between the schema and the one that the migrations create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SchemaAudit {
    /// Pending migrations, if the role may read the record. They can bring missing objects.
    pub pending: Vec<String>,
    /// Missing tables.
    pub tables: Audit,
    /// Tables with row level security disabled.
    pub row_security: Audit,
    /// Policies that are missing or altered, or that expose rows of other users.
    pub policies: Audit,
    /// Privileges on tables and similar objects that are missing, or that should not be granted.
    pub grants: Audit,
    /// Functions that are missing or altered, and privileges to call them.
    pub functions: Audit,
    /// Triggers that are missing, altered or disabled.
    pub triggers: Audit,
    /// Indexes that are missing or invalid.
    pub indexes: Audit,
    /// Keys that limit a user to one like and one skip per video.
    pub keys: Audit,
}

/// Result of checking objects of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Number of objects checked.
    pub examined: usize,
    /// Faults found.
    pub faults: Vec<Fault>,
    /// Objects that an application may have for good reason, but that are worth a look.
    pub doubts: Vec<Fault>,
    /// Existing tables with our names that were not checked, because `[source]` reads others
    /// instead, or computes their ids.
    pub passed_over: Vec<&'static str>,
}

/// An object that differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the object, and what is wrong with it.
    pub what: String,
    /// Statement that repairs it.
    pub fix: String,
}

/// State of the vectors and the index that searches in SQL use, for one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IndexUse {
    /// Number of video vectors.
    pub rows: u64,
    /// Whether the index is valid; `None` if there is none.
    pub valid: Option<bool>,
    /// Whether the planner would use it; `None` without an index.
    pub planned: Option<bool>,
}

/// The active version. Ages are by the store's clock, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Version number.
    pub version: i64,
    /// Dimension of its vectors according to the registry.
    pub embedding_dim: usize,
    /// Age of its activation; negative if that is in the future.
    pub active_us: i64,
    /// Time since one of its video vectors was last written. Future times are ignored.
    pub videos_us: Option<i64>,
    /// Time since an update last wrote one of its user vectors, without future times. Vectors
    /// computed elsewhere have the fingerprint 0 and do not count.
    pub users_us: Option<i64>,
}

/// Sample of the latest vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DimensionSample {
    /// Number of vectors in the sample.
    pub rows: u64,
    /// Number of those with another dimension.
    pub wrong: u64,
    /// The dimension of one of those.
    pub example: Option<i64>,
}

/// Amount of training data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DataFacts {
    /// Number of likes.
    pub likes: u64,
    /// Likes of the last 183 days.
    pub recent_likes: u64,
    /// Users with at least one like.
    pub users: u64,
    /// Videos with at least one like.
    pub liked_videos: u64,
    /// Videos in the catalogue.
    pub videos: u64,
}

/// Coverage of the catalogue by vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Completeness {
    /// Videos in the catalogue.
    pub videos: u64,
    /// Of those, videos without a vector of the version.
    pub missing: u64,
}

/// Impressions and likes of one user, for the latest week and for the four weeks before. A video
/// counts once, at its first impression.
///
/// Only likes within a day of the impression count, and the latest week ended a day ago. Otherwise
/// older impressions would have had more time to be liked, and the rate would fall towards the
/// present whatever the model does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaction {
    /// First shown in the 7 days that ended 24 hours ago.
    pub recent_shown: u64,
    /// Of those, liked within 24 hours.
    pub recent_liked: u64,
    /// First shown in the 28 days before that.
    pub earlier_shown: u64,
    /// Of those, liked within 24 hours.
    pub earlier_liked: u64,
}

/// The latest likes, and how many of their videos the model knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LikeCoverage {
    /// Likes of the last 7 days, the latest 1,000 at most.
    pub likes: u64,
    /// Of those, likes of videos with a vector of the version.
    pub known: u64,
}

/// A table of ours, according to the server's statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatistics {
    /// Name with its schema.
    pub table: String,
    /// Estimated number of rows.
    pub rows: i64,
    /// Estimated number of dead rows.
    pub dead_rows: i64,
    /// Size with indexes and TOAST, bytes.
    pub bytes: i64,
    /// Size of the indexes, bytes.
    pub index_bytes: i64,
    /// Time since the last vacuum, manual or automatic, microseconds.
    pub vacuumed_us: Option<i64>,
    /// Time since the last ANALYZE, manual or automatic, microseconds.
    pub analyzed_us: Option<i64>,
}
