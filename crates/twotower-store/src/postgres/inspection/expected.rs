//! Definitions by the migrations that the program and applications depend on, besides those in
//! `objects.txt`. The application's own tables keep their own policies and privileges, and so do
//! tables that existed before our migrations.

use crate::Source;
use crate::snapshot::passes_on;

/// Rows that a policy admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// All rows: the policy restricts only verbs and roles.
    All,
    /// Rows of the token's user.
    Own,
    /// Rows of the token's user, unless that user was erased.
    OwnUnlessErased,
}

/// A policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// As in `pg_policy.polcmd`: `r`, `a`, `d`, or `*` for every verb.
    pub(super) verb: char,
    /// Roles, comma-separated.
    pub(super) roles: &'static str,
    pub(super) rows: Rows,
}

/// An index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// The definition after `CREATE INDEX CONCURRENTLY name ON table`.
    pub(super) columns: &'static str,
    pub(super) unique: bool,
}

/// Tables that are always ours.
pub(super) const OURS: &[&str] = &[
    "public.video_embeddings",
    "public.user_embeddings",
    "public.recommendation_blocks",
    "public.recommendation_cache",
    "twotower.models",
    "twotower.active_model",
    "twotower.model_activations",
    "twotower.publisher",
    "twotower.tombstone_salt",
    "twotower.tombstones",
    "twotower.change_key",
    "twotower.experiments",
    "twotower.events",
    "twotower.video_popularity",
    "twotower.vector_means",
    "twotower.job_runs",
    "twotower.user_towers",
];

/// Tables with rows of users, or with the secrets that hash their ids.
pub(super) const USER_ROWS: &[&str] = &[
    LIKES,
    SKIPS,
    USER_VECTORS,
    BLOCKS,
    ANSWERS,
    EVENTS,
    SALT,
    TOMBSTONES,
    CHANGE_KEY,
];

/// The earliest migration that creates or changes a table of ours.
pub(super) fn migration_of(table: &str) -> &'static str {
    match table {
        "public.video_embeddings" | "public.user_embeddings" => "20261124000200",
        "twotower.models" | "twotower.active_model" => "20261124000300",
        "twotower.model_activations" | "twotower.publisher" => "20261125000000",
        "twotower.tombstone_salt" | "twotower.tombstones" => "20261126000000",
        "twotower.video_popularity" | "twotower.vector_means" => "20261128000000",
        "public.recommendation_cache" => "20261128000200",
        "twotower.job_runs" => "20261201000000",
        "twotower.user_towers" => "20261201000100",
        _ => "20261127000000",
    }
}

/// Tables that may be the application's own, and may be missing where `[source]` reads others.
pub(super) const APPLICATION: &[&str] = &[
    VIDEOS,
    TAGS,
    VIDEO_TAGS,
    PERFORMERS,
    VIDEO_PERFORMERS,
    LIKES,
    SKIPS,
];

/// Those of them that `source` replaces by others. Such a table is either the application's, with
/// the same name by chance, or empty.
pub(super) fn replaced(source: &Source) -> Vec<&'static str> {
    const PAIR: &[&str] = &["user_id", "video_id"];
    let read = [
        ("videos", &source.videos, &["id"][..], &[VIDEOS][..]),
        (
            "video_tags",
            &source.video_tags,
            &["video_id"],
            &[VIDEO_TAGS, TAGS],
        ),
        (
            "video_performers",
            &source.video_performers,
            &["video_id"],
            &[VIDEO_PERFORMERS, PERFORMERS],
        ),
        ("likes", &source.likes, PAIR, &[LIKES]),
        ("skips", &source.skips, PAIR, &[SKIPS]),
    ];
    let mut replaced = Vec::new();
    for (query, sql, ids, tables) in read {
        if Source::is_ours(query, sql) {
            continue;
        }
        replaced.extend(tables.iter().filter(|table| {
            let name = table.rsplit('.').next().unwrap_or_default();
            !passes_on(sql, name, ids)
        }));
    }
    replaced
}

/// Whether a query of `source` names a table in its FROM, in whatever way.
pub(super) fn is_read(source: &Source, table: &str) -> bool {
    let name = table.rsplit('.').next().unwrap_or_default();
    [
        &source.videos,
        &source.video_tags,
        &source.video_performers,
        &source.likes,
        &source.skips,
    ]
    .into_iter()
    .any(|sql| passes_on(sql, name, &[]))
}

/// All tables.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    OURS.iter().chain(APPLICATION).copied()
}

const AUTHENTICATED: &str = "authenticated";
const TRAINER: &str = "twotower_trainer";
const UPDATER: &str = "twotower_updater";
const SERVER: &str = "twotower_server";
const COMPONENTS: &str = "twotower_server,twotower_trainer,twotower_updater";

const CATALOGUE: &[&str] = &[VIDEOS, TAGS, VIDEO_TAGS, PERFORMERS, VIDEO_PERFORMERS];

const VIDEOS: &str = "public.videos";
const TAGS: &str = "public.tags";
const VIDEO_TAGS: &str = "public.video_tags";
const PERFORMERS: &str = "public.performers";
const VIDEO_PERFORMERS: &str = "public.video_performers";

const VIDEO_VECTORS: &str = "public.video_embeddings";
const USER_VECTORS: &str = "public.user_embeddings";
const BLOCKS: &str = "public.recommendation_blocks";
const ANSWERS: &str = "public.recommendation_cache";
pub(super) const LIKES: &str = "public.likes";
pub(super) const SKIPS: &str = "public.skips";
const MODELS: &str = "twotower.models";
const ACTIVE: &str = "twotower.active_model";
const ACTIVATIONS: &str = "twotower.model_activations";
const PUBLISHER: &str = "twotower.publisher";
const SALT: &str = "twotower.tombstone_salt";
const TOMBSTONES: &str = "twotower.tombstones";
const CHANGE_KEY: &str = "twotower.change_key";
const EXPERIMENTS: &str = "twotower.experiments";
const EVENTS: &str = "twotower.events";
const JOB_RUNS: &str = "twotower.job_runs";
const USER_TOWERS: &str = "twotower.user_towers";

/// Name, verb, roles, rows, tables. Policies of the application's tables as the migrations create
/// them.
type PolicyLine = (
    &'static str,
    char,
    &'static str,
    Rows,
    &'static [&'static str],
);

#[rustfmt::skip]
const POLICIES: &[PolicyLine] = &[
    ("twotower: signed-in users read vectors of videos", 'r', AUTHENTICATED, Rows::All, &[VIDEO_VECTORS]),
    ("twotower: users read their own vector", 'r', AUTHENTICATED, Rows::Own, &[USER_VECTORS]),
    ("twotower: users read own blocks", 'r', AUTHENTICATED, Rows::Own, &[BLOCKS]),
    ("twotower: users block for themselves", 'a', AUTHENTICATED, Rows::OwnUnlessErased, &[BLOCKS]),
    ("twotower: users take back own blocks", 'd', AUTHENTICATED, Rows::Own, &[BLOCKS]),
    ("twotower: users read own answers", 'r', AUTHENTICATED, Rows::Own, &[ANSWERS]),
    ("twotower: users drop own answers", 'd', AUTHENTICATED, Rows::Own, &[ANSWERS]),
    ("twotower: users read own likes", 'r', AUTHENTICATED, Rows::Own, &[LIKES]),
    ("twotower: users like for themselves", 'a', AUTHENTICATED, Rows::OwnUnlessErased, &[LIKES]),
    ("twotower: users take back own likes", 'd', AUTHENTICATED, Rows::Own, &[LIKES]),
    ("twotower: users read own skips", 'r', AUTHENTICATED, Rows::Own, &[SKIPS]),
    ("twotower: users skip for themselves", 'a', AUTHENTICATED, Rows::OwnUnlessErased, &[SKIPS]),
    ("twotower: users take back own skips", 'd', AUTHENTICATED, Rows::Own, &[SKIPS]),
    ("twotower: signed-in users read the catalogue", 'r', AUTHENTICATED, Rows::All, CATALOGUE),
    ("twotower: the jobs and the server read", 'r', COMPONENTS, Rows::All, APPLICATION),
    ("twotower: the server records", 'a', SERVER, Rows::All, &[LIKES, SKIPS]),
    ("twotower: who may read sees all", 'r', "public", Rows::All,
        &[SALT, TOMBSTONES, CHANGE_KEY, "twotower.video_popularity", "twotower.vector_means"]),
    ("twotower: all rows for twotower_trainer", '*', TRAINER, Rows::All, &[MODELS, ACTIVE, JOB_RUNS]),
    ("twotower: all rows for twotower_updater", '*', UPDATER, Rows::All,
        &[MODELS, ACTIVE, ACTIVATIONS, PUBLISHER, VIDEO_VECTORS, USER_VECTORS, EXPERIMENTS, JOB_RUNS, USER_TOWERS]),
    ("twotower: all rows for twotower_server", '*', SERVER, Rows::All,
        &[MODELS, ACTIVE, VIDEO_VECTORS, BLOCKS, EXPERIMENTS, EVENTS]),
    ("twotower: the server reads", 'r', SERVER, Rows::All, &[JOB_RUNS]),
];

/// All policies, one entry per table.
pub(super) fn policies() -> impl Iterator<Item = Policy> {
    POLICIES
        .iter()
        .flat_map(|&(name, verb, roles, rows, tables)| {
            tables.iter().map(move |&table| Policy {
                table,
                name,
                verb,
                roles,
                rows,
            })
        })
}

const fn index(table: &'static str, name: &'static str, columns: &'static str) -> Index {
    Index {
        table,
        name,
        columns,
        unique: false,
    }
}

const fn unique(table: &'static str, name: &'static str, columns: &'static str) -> Index {
    Index {
        unique: true,
        ..index(table, name, columns)
    }
}

/// Indexes by name.
#[rustfmt::skip]
pub(super) const INDEXES: &[Index] = &[
    unique(VIDEO_VECTORS, "video_embeddings_pkey", "(video_id, model_version)"),
    unique(USER_VECTORS, "user_embeddings_pkey", "(user_id, model_version)"),
    index(VIDEO_VECTORS, "video_embeddings_updated_at_idx", "(model_version, updated_at)"),
    index(USER_VECTORS, "user_embeddings_updated_at_idx", "(model_version, updated_at)"),
    unique(MODELS, "models_one_active_idx", "(state) WHERE state = 'active'"),
    unique(EXPERIMENTS, "experiments_one_running_idx", "((true)) WHERE ended_at IS NULL"),
    index(EVENTS, "events_at_idx", "(at)"),
    index(EVENTS, "events_experiment_id_idx", "(experiment_id) WHERE experiment_id IS NOT NULL"),
    index("twotower.video_popularity", "video_popularity_likes_idx", "(likes DESC, video_id)"),
    index(JOB_RUNS, "job_runs_job_started_at_idx", "(job, started_at)"),
];

/// Tables that should have a key of user and video, under any name, and a name for a new one.
pub(super) const KEYS: &[(&str, &str)] = &[
    (LIKES, "likes_user_id_video_id_key"),
    (SKIPS, "skips_user_id_video_id_key"),
];

/// Columns that must be first in some index, whatever its name: the tables may be the application's
/// own.
pub(super) const LEADING: &[(&str, &str)] = &[
    ("public.likes", "user_id"),
    ("public.likes", "video_id"),
    ("public.skips", "user_id"),
    ("public.skips", "video_id"),
];
