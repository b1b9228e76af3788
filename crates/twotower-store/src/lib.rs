//! All SQL, for PostgreSQL and SQLite behind one set of operations, and a model's files, on this
//! machine and in storage.
//!
//! The interface is ids (UUID), times in microseconds since 1970 (UTC) and vectors. Nothing outside
//! this crate knows the name of a table.

mod clock;

mod network;

mod error;

mod snapshot;

mod source;

mod registry;

mod lease;

mod erasure;

mod job_run;

mod private_file;

mod backup;

mod maintenance;

mod user;

mod user_change;

mod replica;

mod event;

mod experiment;

pub mod inspection;

mod store;

mod postgres;

mod sqlite;

pub mod model_files;

pub mod model_storage;

pub use backup::{
    Backup, BackupError, BackupFile, BackupManifest, BackupWriter, KeptVersion, Moment,
    RestoreOptions, Restored, complete_backups, remove_backup,
};
pub use erasure::{ErasePlan, Erased, SearchedRows};
pub use error::{ErrorClass, StoreError};
pub use event::{EventKind, EventPolicy, EventsRecorded, NewEvent};
pub use experiment::{
    Arm, ArmCoverage, ArmOrigins, ArmTotals, Experiment, ExperimentRecord, ExperimentUser,
    NewExperiment,
};
pub use job_run::{FinishedRun, NewRun, RunRecord, RunState};
pub use lease::{Lease, LeaseHolder, LeaseOutcome};
pub use maintenance::{FileHealth, Health, IndexHealth, StepLimits, TableHealth, Upkeep};
pub use postgres::{NoSuchObject, SchemaObject, UserChanges};
pub use private_file::create_private;
pub use registry::{
    Activation, ActivationKind, ActivationRecord, ModelDetails, ModelRecord, ModelState, NewModel,
    version_before,
};
pub use replica::{PrimaryPosition, Replica, ReplicaStates, WalPosition};
pub use snapshot::{Snapshot, SnapshotOptions, Source, hex, sha256, snapshot_sha256};
pub use source::{SourceRead, SourceSink};
pub use sqlite::database_file;
pub use store::{
    ConnectOptions, Connections, Counts, EmbeddingRow, IndexOutcome, IndexPlan, InteractionKind,
    InteractionRow, LONGEST_NAME, LastSeen, Store, StoreKind, StoreTime, UserActivity, UserHistory,
    VectorAge, VectorSummary, VectorTable, VideoCard, VideoColumn, VideoColumns, VideoFacts,
    VideosWritten, text_bytes,
};
pub use user::{Block, BlockKind, UserState};
pub use user_change::{UserChange, UserChangeHasher, UserChangeKey};
