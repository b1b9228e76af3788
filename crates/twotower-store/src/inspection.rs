//! What a database says of itself, for those who look whether all is well. No row of a user is among it.

use serde::Serialize;

/// The server behind a connection, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// `17.4`, as the server spells it.
    pub version: String,
    /// 170004
    pub version_number: i32,
    /// Version of pgvector in this database.
    pub vector: Option<String>,
    /// Version of pgvector that could be installed.
    pub vector_available: Option<String>,
    /// Client connections of everybody, to all databases of the server.
    pub connections: i64,
    /// As many as it takes, those of superusers included.
    pub max_connections: i64,
    /// How the connection is protected.
    pub transport: Transport,
    /// Port on which the server listens; none of a socket.
    pub port: Option<i32>,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transport {
    /// Host of the address.
    pub host: String,
    /// Whether that is this machine.
    pub local: bool,
    /// Encrypted, as the server sees it: a pooler between may have it otherwise.
    pub encrypted: Option<bool>,
    /// Whether the server's certificate and name are verified.
    pub verified: Verification,
}

/// What is asked of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Nothing.
    None,
    /// Who has signed it.
    Authority,
    /// Who has signed it, and that it is this host's.
    Host,
}

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooler {
    /// Nothing.
    None,
    /// Something that keeps a connection for each client: a pooler in session mode, or a forwarded port.
    Session,
    /// A pooler that hands connections round after each transaction.
    Transaction,
}

/// What of the schema is not as the migrations made it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SchemaAudit {
    /// Versions of migrations that are pending, where the role may see: what is missing may come with them.
    pub pending: Vec<String>,
    /// Tables that are not there.
    pub tables: Audit,
    /// Row level security that is off.
    pub row_security: Audit,
    /// Policies that are missing or altered, or that open rows of others.
    pub policies: Audit,
    /// Rights on tables and the like that are missing, or that nobody should have.
    pub grants: Audit,
    /// Functions that are missing or altered, and rights to call them.
    pub functions: Audit,
    /// Triggers that are missing, altered or disabled.
    pub triggers: Audit,
    /// Indexes that are missing or invalid.
    pub indexes: Audit,
    /// Keys that allow one like and one skip of a user and a video.
    pub keys: Audit,
}

/// What came of looking at objects of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Objects looked at.
    pub examined: usize,
    /// What is wrong with which of them.
    pub faults: Vec<Fault>,
    /// What may be wanted, as an application has things of its own, and would be wrong if it is not.
    pub doubts: Vec<Fault>,
    /// Tables of our names that are there and were not looked at, since `[source]` reads others in their place, or computes ids of theirs.
    pub passed_over: Vec<&'static str>,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the object, and what is wrong with it.
    pub what: String,
    /// Statement that mends it.
    pub fix: String,
}

/// How those who search in SQL find the vectors of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IndexUse {
    /// Vectors of videos.
    pub rows: u64,
    /// Whether the index is there, and if so, whether it is complete.
    pub valid: Option<bool>,
    /// Whether the planner would search by it; none without an index.
    pub planned: Option<bool>,
}

/// The version that readers see. Ages are by the store's clock, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Version.
    pub version: i64,
    /// Dimension of its vectors, as the registry has it.
    pub embedding_dim: usize,
    /// Since it was made active; below 0 where that is yet to come.
    pub active_us: i64,
    /// Since one of its vectors of videos was last written. Times that are yet to come say nothing of when.
    pub videos_us: Option<i64>,
    /// Since an update last wrote one of its vectors of users, as above: what computes them elsewhere leaves them the fingerprint 0.
    pub users_us: Option<i64>,
}

/// Vectors that were written last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DimensionSample {
    /// Vectors looked at.
    pub rows: u64,
    /// Those of another dimension.
    pub wrong: u64,
    /// The dimension of one of those.
    pub example: Option<i64>,
}

/// What there is to learn from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DataFacts {
    /// Likes.
    pub likes: u64,
    /// Likes of the last 183 days.
    pub recent_likes: u64,
    /// Users who like something.
    pub users: u64,
    /// Videos that somebody likes.
    pub liked_videos: u64,
    /// Videos in the catalogue.
    pub videos: u64,
}

/// Videos without a vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Completeness {
    /// Videos in the catalogue.
    pub videos: u64,
    /// Of those, without a vector of the version.
    pub missing: u64,
}

/// What one user was shown and liked of it, in a week and in the four before. A video counts once, where it was shown first.
///
/// Only a like within a day of that counts, and the week ended a day ago: who was shown a video a month ago has had a month to like it, and a rate of
/// all that was liked until now falls towards the present whatever the model does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaction {
    /// First shown in the 7 days that ended 24 hours ago.
    pub recent_shown: u64,
    /// Of those, liked within 24 hours of it.
    pub recent_liked: u64,
    /// First shown in the 28 days before.
    pub earlier_shown: u64,
    /// Of those, liked within 24 hours of it.
    pub earlier_liked: u64,
}

/// The latest likes, and how many of them are of videos that the model knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LikeCoverage {
    /// The latest likes of the last 7 days, at most 1,000.
    pub likes: u64,
    /// Of those, of videos with a vector of the version.
    pub known: u64,
}

/// A table of ours, as the server's statistics have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatistics {
    /// With its schema.
    pub table: String,
    /// Rows, estimated.
    pub rows: i64,
    /// Dead rows, estimated.
    pub dead_rows: i64,
    /// With indexes and what is stored out of line, bytes.
    pub bytes: i64,
    /// Indexes alone, bytes.
    pub index_bytes: i64,
    /// Since it was last vacuumed, by hand or not, microseconds.
    pub vacuumed_us: Option<i64>,
    /// Since statistics were last made of it, microseconds.
    pub analyzed_us: Option<i64>,
}
