mod certificate;

mod class;

mod said;

mod value;

pub use class::ErrorClass;

use crate::InteractionKind;
use crate::registry::ModelState;
use certificate::{fault, refuses_certificate};
use said::{lost_salt, said};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use twotower_core::embedding::EmbeddingError;
use twotower_core::feature::CatalogueError;
use uuid::Uuid;

/// Why an operation on the store failed. No message contains a password or the id of a user.
///
/// A message includes its cause. No variant is therefore the `source` of another: printing a chain
/// of errors would repeat it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The address names no supported store. Credentials in it are redacted.
    #[error(
        "`{0}` is no database address: use postgresql://user@host/database or sqlite://file.db"
    )]
    Url(String),
    /// The address of a replica names no PostgreSQL server. Credentials in it are redacted.
    #[error("`{0}` is no address of a replica: use postgresql://user@host/database")]
    ReplicaUrl(String),
    /// The address would allow an unencrypted connection, or one to an unverified server.
    #[error(
        "sslmode={mode} does not protect the connection to {host}: leave it out for verify-full (with sslrootcert=file.crt where the \
         server has a certificate of its own authority), or choose require or verify-ca knowingly"
    )]
    Insecure {
        /// Host of the address.
        host: String,
        /// Refused SSL mode.
        mode: String,
    },
    /// The address names a file that does not exist.
    #[error(
        "there is no file {}: set DATABASE_URL, or --db-url, to the address of the database, or make one with `twotower import`, \
         `twotower migrate` or `twotower restore` first",
        .0.display()
    )]
    NoFile(PathBuf),
    /// The connection failed.
    #[error("cannot connect to {address}: {}", said(cause))]
    Connect {
        /// Address without credentials.
        address: String,
        /// Error of the driver.
        cause: sqlx::Error,
    },
    /// The server's certificate is not trusted, or does not belong to the address's host. Nothing
    /// was sent to it.
    #[error(
        "the certificate of {server} is refused ({}): name the file of the authority that signed it, as Supabase's own, by `?sslrootcert=FILE` in \
         the address, or let the address name the host that the certificate is for; an expired one has to be renewed on the server. \
         `sslmode=verify-ca` would trust any host of that authority, and `sslmode=require` anybody at all",
        fault(cause)
    )]
    Certificate {
        /// Address without credentials, or what is known of the server.
        server: String,
        /// Error of the driver.
        cause: sqlx::Error,
    },
    /// The address names a certificate or key file that does not exist.
    #[error(
        "cannot connect to {address}: the file of `sslrootcert`, `sslcert` or `sslkey` is not there ({}): set its path, an absolute one where \
         commands run in other folders",
        fault(cause)
    )]
    NoCertificateFile {
        /// Address without credentials.
        address: String,
        /// Error of the driver.
        cause: sqlx::Error,
    },
    /// A connection broke.
    #[error("the connection to the database broke: {}", said(.0))]
    Connection(sqlx::Error),
    /// No connection became free in time, or another process kept the file locked.
    #[error("the database is busy: {}", said(.0))]
    Busy(sqlx::Error),
    /// The deadline has passed. The work was rolled back.
    #[error("{operation} took longer than {limit:?}")]
    Deadline {
        /// Name of the operation.
        operation: &'static str,
        /// Its time limit.
        limit: Duration,
    },
    /// The server cancelled the statement.
    #[error("the database cancelled the statement: {}", said(.0))]
    Cancelled(sqlx::Error),
    /// Another transaction held a lock that a migration needs. Nothing of this migration was
    /// applied; earlier ones stay.
    #[error(
        "migration {version} ({name}) asked {tries} times for a lock that another transaction keeps ({}): nothing of it was applied, \
         the migrations before it stay, and `twotower migrate` may be run again; while that waits, \
         `SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity WHERE wait_event_type = 'Lock'` tells who keeps it",
        said(cause)
    )]
    MigrationLocked {
        /// Version of the migration.
        version: &'static str,
        /// Name of the migration.
        name: &'static str,
        /// Number of tries.
        tries: u32,
        /// Error of the driver in the last try.
        cause: sqlx::Error,
    },
    /// Another transaction held locks that an erasure needs. Nothing was erased.
    #[error(
        "nothing was erased in {} s: {reason} ({}). `SELECT pid, usename, application_name, state, xact_start, query FROM \
         pg_stat_activity` tells what it does; erase again when it is done, or `SELECT pg_terminate_backend(pid)` has ended it",
        waited.as_secs(),
        said(cause)
    )]
    EraseLocked {
        /// How long the erasure waited.
        waited: Duration,
        /// Which processes hold which locks, as far as known.
        reason: String,
        /// Error of the driver in the last try.
        cause: sqlx::Error,
    },
    /// The application's tables have ids that are not of type uuid, and tables are missing that
    /// migrations can create only for uuid. Nothing was applied.
    #[error(
        "{} and not uuid, so that the migrations cannot make {}: create {} first, with ids of that type (docs/supabase.md, \"Migrations\"; the statements are in docs/deployment.md, \"1.2 Data\"); \
         nothing was applied",
        ids.join(", "),
        tables.join(", "),
        if tables.len() == 1 { "that table" } else { "these tables" }
    )]
    MissingTables {
        /// The missing tables.
        tables: Vec<String>,
        /// The id columns and their types.
        ids: Vec<String>,
    },
    /// There are tables of vectors that another system created. Nothing was applied.
    #[error(
        "without a column model_version {} cannot be ours, as with vectors of the Python system: make room by `{statements}` \
         (docs/supabase.md, \"Migrations\"), and run `twotower migrate` again; nothing was applied",
        tables.join(" and ")
    )]
    OtherVectors {
        /// The tables.
        tables: Vec<String>,
        /// What the operator can do.
        statements: String,
    },
    /// There are this many tombstones but no salt: a new salt would invalidate them. Nothing was
    /// recreated.
    #[error("{}", lost_salt(*.0))]
    LostSalt(i64),
    /// The server accepts no writes: it is a replica, or has become one.
    #[error("the database server takes no writes, as a replica does: {}", said(.0))]
    ReadOnly(sqlx::Error),
    /// The address of the database leads to a replica.
    #[error("the address of the database leads to a replica, which takes no writes")]
    Standby,
    /// A table, column or function is missing.
    #[error("the database lacks what is needed ({}): run `twotower migrate`", said(.0))]
    Schema(sqlx::Error),
    /// The role lacks a permission.
    #[error(
        "the database role lacks a permission ({}): grant it, or connect as the owner of the tables",
        said(.0)
    )]
    Permission(sqlx::Error),
    /// A constraint of the database refused a row.
    #[error("constraint `{constraint}` refused a row: {}", said(cause))]
    Constraint {
        /// Name of the constraint; empty if the engine does not report it.
        constraint: String,
        /// Error of the driver.
        cause: sqlx::Error,
    },
    /// The database could not convert a value. Its message is not repeated: it quotes the value,
    /// which can be an address or an id.
    #[error(
        "a value{place} is not what is asked for (SQLSTATE {code}, {}); it is not told here, and stands in the database server's log",
        value::condition(code)
    )]
    Value {
        /// SQLSTATE, of class 22.
        code: String,
        /// ` of` and the table and column, or the query of the source, as far as known.
        place: String,
    },
    /// Any other error of the database.
    #[error("the database refused: {}", said(.0))]
    Database(sqlx::Error),

    /// There is no such video.
    #[error("video {0} does not exist")]
    UnknownVideo(Uuid),
    /// A video that the store cannot hold.
    #[error("video {id}: {field} {reason}")]
    Video {
        /// Id of the video.
        id: Uuid,
        /// Field of the video.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A block that can match no video.
    #[error("the value of a block {reason}")]
    Block {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The seconds since 1970 do not fit 32 bits.
    #[error("{table}: created_at is {at_us} µs from 1970, outside the years 1970 to 2106")]
    Time {
        /// `likes` or `skips`.
        table: &'static str,
        /// Microseconds since 1970.
        at_us: i64,
    },
    /// A query returned a value of the wrong type or form.
    #[error("{query}: column {column} {reason}")]
    Row {
        /// Query of [`crate::Source`], or table.
        query: &'static str,
        /// Column.
        column: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A query of [`crate::Source`] that fails, or returns values of the wrong type or form.
    #[error(
        "[source] {key}: {reason}: mend that SELECT in the configuration (docs/configuration.md, \"source\")"
    )]
    Source {
        /// Name of the query.
        key: &'static str,
        /// Error of the database, or what is wrong with a row.
        reason: String,
    },
    /// One of our own queries cannot read a table, because the application created it in another
    /// form.
    #[error(
        "`{key}` cannot be read as it is: {reason}. Where that table is the application's own, with ids of another type or columns of other names, \
         say in section [source] of the configuration how {key} are read (docs/configuration.md, \"source\", with the expression for ids that \
         are numbers)"
    )]
    Unmapped {
        /// Name of the query.
        key: &'static str,
        /// Error of the database.
        reason: String,
    },
    /// One of the operator's erasure statements failed. Nothing was erased.
    #[error(
        "[erase] statements: statement {number} cannot be run: {reason}: mend it in the configuration (docs/configuration.md, \"erase\"). The \
         user's id is `$1`, {}; nothing was erased",
        if *bytes {
            "16 bytes"
        } else {
            "a uuid: where yours are whole numbers, compare the expression that makes uuids of them, as in \
             `where ('00000000-0000-8000-8000-' || lpad(to_hex(member_id), 12, '0'))::uuid = $1`"
        }
    )]
    Statement {
        /// Number of the statement, from 1.
        number: usize,
        /// Error of the database.
        reason: String,
        /// Whether the id is passed as bytes, as in SQLite.
        bytes: bool,
    },
    /// Rows written into our own table would not be read, because the source reads another.
    #[error(
        "{} are read from the application's own table, as section [source] of the configuration says: write it there",
        .0.table()
    )]
    ReadElsewhere(InteractionKind),
    /// The videos form no valid catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),

    /// The user was erased.
    #[error("this user has been erased: what they did is neither read nor recorded any more")]
    ErasedUser,
    /// There is no such version.
    #[error("model version {0} is not registered")]
    UnknownModel(i64),
    /// Another model has this version number.
    #[error(
        "version {version} is registered as another model: the manifest of this one has checksum {given}, the registry has {registered}. \
         Move the folder away and put the registered model's in its place (`twotower fetch --version {version}`, or a copy from the \
         machine that trained it); or train anew, which takes the next number"
    )]
    OtherModel {
        /// The version number.
        version: i64,
        /// Checksum of the registered manifest.
        registered: String,
        /// Checksum of the manifest that was given.
        given: String,
    },
    /// The version is active.
    #[error("model version {0} is active: activate another one first")]
    ActiveModel(i64),
    /// The state `active` is set only by [`crate::Store::activate_model`].
    #[error("model version {0} becomes active by being activated, not by setting its state")]
    SetActive(i64),
    /// The version is not complete, so it cannot be activated.
    #[error(
        "model version {version} is {state}: only a candidate or retired version can be made active; `twotower update --model-path \
         models/{version} --no-activate` loads it"
    )]
    NotActivatable {
        /// Version number.
        version: i64,
        /// Its state.
        state: ModelState,
    },
    /// Another experiment is running.
    #[error("an experiment is running already: end it with `twotower experiment stop` first")]
    ExperimentRuns,
    /// Another process has taken the lease over.
    #[error(
        "another process has taken over publishing, so that nothing more is written here: `twotower update` does what is left"
    )]
    LeaseLost,
    /// A pooler between us and the server does not pass the settings of a connection on.
    #[error(
        "the server does not get the settings of a connection ({setting}), as behind a pooler in transaction mode: for this, connect to the \
         server itself or to its pooler in session mode"
    )]
    Settings {
        /// The setting that had no effect.
        setting: &'static str,
    },
    /// The SQLite file is damaged.
    #[error(
        "the database file is damaged ({fault}): stop what uses it, keep a copy, and put a backup back with `twotower restore`"
    )]
    DamagedFile {
        /// First fault that the engine found.
        fault: String,
    },
    /// The vector cannot be compared with others.
    #[error("vector {row} of {table}: {cause}")]
    Vector {
        /// Table.
        table: &'static str,
        /// Position among the given rows, or in order of id.
        row: usize,
        /// What is wrong with it.
        cause: EmbeddingError,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                // PostgreSQL's SQLSTATE, or SQLite's extended result code, whose low byte is the
                // primary code.
                let code = database.code().unwrap_or_default().into_owned();
                let sqlite = code.parse::<i32>().ok().filter(|_| code.len() < 5);
                match (code.as_str(), sqlite.map(|code| code & 0xff)) {
                    ("42P01" | "42703" | "42883" | "42704" | "3F000", _) => Self::Schema(error),
                    ("57014", _) => Self::Cancelled(error),
                    (code, None) if code.starts_with("22") => Self::of_value(code, &**database),
                    ("25006", _) => Self::ReadOnly(error),
                    ("42501", _) => Self::Permission(error),
                    ("55P03" | "40001" | "40P01" | "53300", _) | (_, Some(5 | 6)) => {
                        Self::Busy(error)
                    }
                    // 08: connection exceptions; 25P03: the server ended an idle transaction.
                    ("57P01" | "57P02" | "57P03" | "25P03", _) => Self::Connection(error),
                    (code, None) if code.starts_with("08") => Self::Connection(error),
                    (code, _) if code.starts_with("23") && code.len() == 5 => {
                        let constraint = database.constraint().unwrap_or_default().to_owned();
                        Self::Constraint {
                            constraint,
                            cause: error,
                        }
                    }
                    (_, Some(19)) => Self::Constraint {
                        constraint: String::new(),
                        cause: error,
                    },
                    (_, Some(1)) if database.message().starts_with("no such ") => {
                        Self::Schema(error)
                    }
                    _ => Self::Database(error),
                }
            }
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            // From a connection that the pool opens later.
            sqlx::Error::Io(said) if refuses_certificate(said) => Self::Certificate {
                server: "the database".into(),
                cause: error,
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Connection(error),
            _ => Self::Database(error),
        }
    }
}

impl StoreError {
    /// Whether the database refused a row because of a foreign key.
    pub(crate) fn is_foreign_key(&self) -> bool {
        matches!(self, Self::Constraint { cause, .. }
            if cause.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation))
    }

    /// Whether the database refused a row because it exists already.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Constraint { cause, .. }
            if cause.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation))
    }

    /// For a new experiment: its only unique constraint besides the number allows one running
    /// experiment.
    pub(crate) fn second_experiment(self) -> Self {
        if self.is_duplicate() {
            Self::ExperimentRuns
        } else {
            self
        }
    }

    /// Whether the database was unreachable or busy, so that the call is worth repeating elsewhere
    /// or later.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Busy(_)
            | Self::Connection(_)
            | Self::Certificate { .. }
            | Self::MigrationLocked { .. }
            | Self::ReadOnly(_)
            | Self::Standby => true,
            Self::Connect { cause, .. } => match cause {
                sqlx::Error::Io(_) => true,
                sqlx::Error::Database(error) => error
                    .code()
                    .is_some_and(|code| code == "53300" || code.starts_with("57P")),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether no answer came in time, because the server is slow, down or unreachable.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }
}
