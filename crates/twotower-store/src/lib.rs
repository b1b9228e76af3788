//! All SQL, for PostgreSQL and for SQLite behind one set of operations, and the files of a model, here and in storage.
//!
//! What goes in and out are ids (UUID), times in microseconds since 1970 (UTC) and vectors; nothing outside this crate
//! knows a table's name.

mod clock;

mod error;

mod snapshot;

mod source;

mod registry;

mod lease;

mod erasure;

mod job_run;

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
pub use error::StoreError;
pub use event::{EventKind, EventPolicy, EventsRecorded, NewEvent};
pub use experiment::{
    Arm, ArmCoverage, ArmOrigins, ArmTotals, Experiment, ExperimentRecord, ExperimentUser,
    NewExperiment,
};
pub use job_run::{FinishedRun, NewRun, RunRecord, RunState};
pub use lease::{Lease, LeaseHolder, LeaseOutcome};
pub use maintenance::{FileHealth, Health, IndexHealth, StepLimits, TableHealth, Upkeep};
pub use postgres::{NoSuchObject, SchemaObject, UserChanges};
pub use registry::{
    Activation, ActivationKind, ActivationRecord, ModelDetails, ModelRecord, ModelState, NewModel,
    version_before,
};
pub use replica::{PrimaryPosition, Replica, ReplicaStates, WalPosition};
pub use snapshot::{Snapshot, SnapshotOptions, Source, snapshot_sha256};
pub use source::{SourceRead, SourceSink};
pub use store::{
    ConnectOptions, Connections, Counts, EmbeddingRow, IndexOutcome, IndexPlan, InteractionKind,
    InteractionRow, LONGEST_NAME, LastSeen, Store, StoreKind, StoreTime, UserActivity, UserHistory,
    VectorAge, VectorSummary, VectorTable, VideoCard, VideoColumn, VideoColumns, VideoFacts,
    VideosWritten, text_bytes,
};
pub use user::{Block, BlockKind, UserState};
pub use user_change::{UserChange, UserChangeHasher, UserChangeKey};
