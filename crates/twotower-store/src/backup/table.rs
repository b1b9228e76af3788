//! The tables of a backup, described once for both engines.

/// Encoding of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Real,
    Boolean,
    Text,
    Json,
    /// Microseconds since 1970.
    Time,
    Id,
    /// Hexadecimal digits.
    Bytes,
}

/// A column. It has the same name in both engines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether SQLite has it too.
    pub(crate) everywhere: bool,
}

/// A table. Columns that number rows are left out where nothing refers to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// Name of its file, without `.jsonl`.
    pub(crate) name: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) sqlite: &'static str,
    pub(crate) columns: &'static [Column],
    /// SQL condition that selects its rows.
    pub(crate) rows: &'static str,
    pub(crate) order: &'static str,
    /// Columns of the key, comma-separated.
    pub(crate) key: &'static str,
    /// Whether a row of the backup replaces one with the same key. Otherwise the existing row
    /// stays.
    pub(crate) replaces: bool,
    /// Whether its rows belong to users, named by a column `user_id`.
    pub(crate) of_users: bool,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        everywhere: true,
    }
}

pub(crate) const MODELS: Table = Table {
    name: "models",
    postgres: "twotower.models",
    sqlite: "twotower_models",
    columns: &[
        column("version", Kind::Integer),
        column("state", Kind::Text),
        column("embedding_dim", Kind::Integer),
        column("created_at", Kind::Time),
        column("activated_at", Kind::Time),
        column("retired_at", Kind::Time),
        column("cut_off", Kind::Time),
        column("snapshot_sha256", Kind::Text),
        column("hyperparameters", Kind::Json),
        column("metrics", Kind::Json),
        column("manifest_sha256", Kind::Text),
        Column {
            name: "promoted_by",
            kind: Kind::Text,
            everywhere: false,
        },
        column("reason", Kind::Text),
        column("verdict", Kind::Json),
        column("erasures_seen", Kind::Integer),
        column("pruned_at", Kind::Time),
    ],
    rows: "true",
    order: "version",
    key: "version",
    replaces: true,
    of_users: false,
};

pub(crate) const ACTIVATIONS: Table = Table {
    name: "model_activations",
    postgres: "twotower.model_activations",
    sqlite: "twotower_model_activations",
    columns: &[
        column("version", Kind::Integer),
        column("activated_at", Kind::Time),
        column("kind", Kind::Text),
        column("activated_by", Kind::Text),
        column("reason", Kind::Text),
        column("previous_version", Kind::Integer),
        column("forced", Kind::Boolean),
    ],
    rows: "true",
    order: "id",
    key: "",
    replaces: false,
    of_users: false,
};

pub(crate) const EXPERIMENTS: Table = Table {
    name: "experiments",
    postgres: "twotower.experiments",
    sqlite: "twotower_experiments",
    columns: &[
        column("id", Kind::Integer),
        column("control_version", Kind::Integer),
        column("challenger_version", Kind::Integer),
        column("share", Kind::Real),
        column("salt", Kind::Bytes),
        column("started_at", Kind::Time),
        column("ended_at", Kind::Time),
        column("started_by", Kind::Text),
        column("reason", Kind::Text),
    ],
    rows: "true",
    order: "id",
    key: "id",
    replaces: true,
    of_users: false,
};

pub(crate) const TOMBSTONE_SALT: Table = Table {
    name: "tombstone_salt",
    postgres: "twotower.tombstone_salt",
    sqlite: "twotower_tombstone_salt",
    columns: &[column("salt", Kind::Bytes)],
    rows: "true",
    order: "salt",
    key: "",
    replaces: false,
    of_users: false,
};

pub(crate) const TOMBSTONES: Table = Table {
    name: "tombstones",
    postgres: "twotower.tombstones",
    sqlite: "twotower_tombstones",
    columns: &[
        column("user_hash", Kind::Bytes),
        column("erased_at", Kind::Time),
        column("number", Kind::Integer),
    ],
    rows: "true",
    order: "number",
    key: "user_hash",
    replaces: false,
    of_users: false,
};

pub(crate) const BLOCKS: Table = Table {
    name: "recommendation_blocks",
    postgres: "public.recommendation_blocks",
    sqlite: "recommendation_blocks",
    columns: &[
        column("user_id", Kind::Id),
        column("kind", Kind::Text),
        column("value", Kind::Text),
        column("created_at", Kind::Time),
    ],
    rows: "true",
    order: "user_id, kind, value",
    key: "user_id, kind, value",
    replaces: false,
    of_users: true,
};

pub(crate) const EVENTS: Table = Table {
    name: "events",
    postgres: "twotower.events",
    sqlite: "twotower_events",
    columns: &[
        column("user_id", Kind::Id),
        column("event_id", Kind::Id),
        column("kind", Kind::Text),
        column("video_id", Kind::Id),
        column("model_version", Kind::Integer),
        column("experiment_id", Kind::Integer),
        column("arm", Kind::Text),
        column("request_id", Kind::Text),
        column("position", Kind::Integer),
        column("watch_fraction", Kind::Real),
        column("at", Kind::Time),
    ],
    rows: "true",
    order: "user_id, event_id",
    key: "user_id, event_id",
    replaces: false,
    of_users: true,
};

/// Runs in progress are left out: the backup's own is one.
pub(crate) const JOB_RUNS: Table = Table {
    name: "job_runs",
    postgres: "twotower.job_runs",
    sqlite: "twotower_job_runs",
    columns: &[
        column("job", Kind::Text),
        column("state", Kind::Text),
        column("due_at", Kind::Time),
        column("started_at", Kind::Time),
        column("finished_at", Kind::Time),
        column("host", Kind::Text),
        column("pid", Kind::Integer),
        column("attempts", Kind::Integer),
        column("exit_code", Kind::Integer),
        column("model_version", Kind::Integer),
        column("message", Kind::Text),
    ],
    rows: "state <> 'running'",
    order: "id",
    key: "",
    replaces: false,
    of_users: false,
};

impl Table {
    /// Columns that both engines have.
    pub(crate) fn everywhere(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|column| column.everywhere)
    }

    /// The ON CONFLICT clause of an INSERT of these columns; empty for a table without a key.
    pub(crate) fn on_conflict<'a>(&self, columns: impl Iterator<Item = &'a Column>) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        if !self.replaces {
            return format!("ON CONFLICT ({}) DO NOTHING", self.key);
        }
        let set: Vec<String> = columns
            .filter(|column| column.name != self.key)
            .map(|column| format!("\"{0}\" = excluded.\"{0}\"", column.name))
            .collect();
        format!(
            "ON CONFLICT ({}) DO UPDATE SET {}",
            self.key,
            set.join(", ")
        )
    }
}

/// Name of a table's file.
pub(super) fn file(table: &str) -> String {
    format!("{table}.jsonl")
}

/// The table that a file holds; `None` for any other file.
pub(super) fn of_file(name: &str) -> Option<&str> {
    name.strip_suffix(".jsonl")
        .filter(|table| !table.contains('/'))
}
