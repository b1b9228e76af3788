//! What the migrations make, as far as the program and applications need it. A table of the application's own keeps its own policies and
//! rights, and so do the tables of ours that a migration found already there.

/// Rows that a policy lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// All: the verbs say what, and the role who.
    All,
    /// Those of the user of the token.
    Own,
}

/// A policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// As `pg_policy.polcmd` has it: `r`, `a`, `d`, or `*` for every verb.
    pub(super) verb: char,
    /// Roles, with commas between.
    pub(super) roles: &'static str,
    pub(super) rows: Rows,
}

/// A right on a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) table: &'static str,
    pub(super) role: &'static str,
    pub(super) verb: &'static str,
    /// The columns it is for, in parentheses; empty for all.
    pub(super) columns: &'static str,
}

/// An index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// What stands behind `CREATE INDEX CONCURRENTLY name ON table`.
    pub(super) columns: &'static str,
    pub(super) unique: bool,
}

/// Tables that are ours alone.
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
];

/// The migration that makes a table of ours, the earliest of which it takes part.
pub(super) fn migration_of(table: &str) -> &'static str {
    match table {
        "public.video_embeddings" | "public.user_embeddings" => "20261124000200",
        "twotower.models" | "twotower.active_model" => "20261124000300",
        "twotower.model_activations" | "twotower.publisher" => "20261125000000",
        "twotower.tombstone_salt" | "twotower.tombstones" => "20261126000000",
        "twotower.video_popularity" | "twotower.vector_means" => "20261128000000",
        "public.recommendation_cache" => "20261128000200",
        "twotower.job_runs" => "20261201000000",
        _ => "20261127000000",
    }
}

/// Tables that may be the application's own, and may be missing where `[source]` reads others.
pub(super) const APPLICATION: &[&str] = &[
    "public.videos",
    "public.tags",
    "public.video_tags",
    "public.performers",
    "public.video_performers",
    "public.likes",
    "public.skips",
];

/// All of them.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    OURS.iter().chain(APPLICATION).copied()
}

const fn policy(
    table: &'static str,
    name: &'static str,
    verb: char,
    roles: &'static str,
    rows: Rows,
) -> Policy {
    Policy {
        table,
        name,
        verb,
        roles,
        rows,
    }
}

const AUTHENTICATED: &str = "authenticated";
const TRAINER: &str = "twotower_trainer";
const UPDATER: &str = "twotower_updater";
const SERVER: &str = "twotower_server";
const SERVICE: &str = "service_role";

/// Policies of tables that are ours, and those of the application's as the migrations make them.
pub(super) fn policies() -> Vec<Policy> {
    let mut policies = vec![
        policy(
            "public.video_embeddings",
            "twotower: signed-in users read vectors of videos",
            'r',
            AUTHENTICATED,
            Rows::All,
        ),
        policy(
            "public.user_embeddings",
            "twotower: users read their own vector",
            'r',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.recommendation_blocks",
            "twotower: users read own blocks",
            'r',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.recommendation_blocks",
            "twotower: users block for themselves",
            'a',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.recommendation_blocks",
            "twotower: users take back own blocks",
            'd',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.recommendation_cache",
            "twotower: users read own answers",
            'r',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.recommendation_cache",
            "twotower: users drop own answers",
            'd',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.likes",
            "twotower: users read own likes",
            'r',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.likes",
            "twotower: users like for themselves",
            'a',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.likes",
            "twotower: users take back own likes",
            'd',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.skips",
            "twotower: users read own skips",
            'r',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.skips",
            "twotower: users skip for themselves",
            'a',
            AUTHENTICATED,
            Rows::Own,
        ),
        policy(
            "public.skips",
            "twotower: users take back own skips",
            'd',
            AUTHENTICATED,
            Rows::Own,
        ),
    ];
    for table in [
        "tombstone_salt",
        "tombstones",
        "change_key",
        "video_popularity",
        "vector_means",
    ] {
        let table = tables().find(|name| name.strip_prefix("twotower.") == Some(table));
        policies.extend(table.map(|table| {
            policy(
                table,
                "twotower: who may read sees all",
                'r',
                "public",
                Rows::All,
            )
        }));
    }
    for &table in APPLICATION {
        let (likes, skips) = (table == "public.likes", table == "public.skips");
        if !likes && !skips {
            policies.push(policy(
                table,
                "twotower: signed-in users read the catalogue",
                'r',
                AUTHENTICATED,
                Rows::All,
            ));
        } else {
            policies.push(policy(
                table,
                "twotower: the server records",
                'a',
                SERVER,
                Rows::All,
            ));
        }
        let readers = "twotower_server,twotower_trainer,twotower_updater";
        policies.push(policy(
            table,
            "twotower: the jobs and the server read",
            'r',
            readers,
            Rows::All,
        ));
    }
    for (role, name, tables) in [
        (
            TRAINER,
            "twotower: all rows for twotower_trainer",
            &[
                "twotower.models",
                "twotower.active_model",
                "twotower.job_runs",
            ][..],
        ),
        (
            UPDATER,
            "twotower: all rows for twotower_updater",
            &[
                "twotower.models",
                "twotower.active_model",
                "twotower.model_activations",
                "twotower.publisher",
                "public.video_embeddings",
                "public.user_embeddings",
                "twotower.experiments",
                "twotower.job_runs",
            ],
        ),
        (
            SERVER,
            "twotower: all rows for twotower_server",
            &[
                "twotower.models",
                "twotower.active_model",
                "public.video_embeddings",
                "public.recommendation_blocks",
                "twotower.experiments",
                "twotower.events",
            ],
        ),
    ] {
        policies.extend(
            tables
                .iter()
                .map(|&table| policy(table, name, '*', role, Rows::All)),
        );
    }
    policies
}

/// Rights that somebody needs: applications, and each component.
pub(super) fn grants() -> Vec<Grant> {
    let own = "(user_id, video_id)";
    let mut grants = Vec::new();
    let mut add = |role, verbs: &[&'static str], columns, tables: &[&'static str]| {
        for &table in tables {
            grants.extend(verbs.iter().map(|&verb| Grant {
                table,
                role,
                verb,
                columns,
            }));
        }
    };
    add(
        AUTHENTICATED,
        &["SELECT"],
        "",
        &["public.video_embeddings", "public.user_embeddings"],
    );
    add(
        AUTHENTICATED,
        &["SELECT", "DELETE"],
        "",
        &[
            "public.likes",
            "public.skips",
            "public.recommendation_blocks",
            "public.recommendation_cache",
        ],
    );
    add(
        AUTHENTICATED,
        &["INSERT"],
        own,
        &["public.likes", "public.skips"],
    );
    add(
        AUTHENTICATED,
        &["INSERT"],
        "(user_id, kind, value)",
        &["public.recommendation_blocks"],
    );
    add(
        SERVICE,
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "",
        &OURS[..4],
    );
    add(
        SERVICE,
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "",
        &[
            "twotower.models",
            "twotower.active_model",
            "twotower.model_activations",
            "twotower.publisher",
            "twotower.experiments",
            "twotower.events",
            "twotower.job_runs",
        ],
    );
    for role in [TRAINER, UPDATER, SERVER] {
        add(role, &["SELECT"], "", APPLICATION);
        add(
            role,
            &["SELECT"],
            "",
            &[
                "twotower.tombstones",
                "twotower.tombstone_salt",
                "twotower.models",
                "twotower.active_model",
            ],
        );
    }
    add(
        TRAINER,
        &["SELECT", "INSERT", "UPDATE"],
        "",
        &["twotower.job_runs"],
    );
    add(
        UPDATER,
        &["INSERT", "UPDATE"],
        "",
        &["twotower.models", "twotower.active_model"],
    );
    add(
        UPDATER,
        &["SELECT", "INSERT"],
        "",
        &["twotower.model_activations"],
    );
    add(UPDATER, &["SELECT", "UPDATE"], "", &["twotower.publisher"]);
    add(
        UPDATER,
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "",
        &["public.video_embeddings", "public.user_embeddings"],
    );
    add(UPDATER, &["SELECT"], "", &["twotower.experiments"]);
    add(
        UPDATER,
        &["SELECT", "INSERT", "UPDATE"],
        "",
        &["twotower.job_runs"],
    );
    add(
        SERVER,
        &["INSERT"],
        "",
        &["public.likes", "public.skips", "twotower.events"],
    );
    add(
        SERVER,
        &["SELECT"],
        "",
        &[
            "public.video_embeddings",
            "twotower.experiments",
            "twotower.change_key",
        ],
    );
    add(
        SERVER,
        &["SELECT", "INSERT", "DELETE"],
        "",
        &["public.recommendation_blocks"],
    );
    grants
}

/// Rights that nobody with a token should have: TRUNCATE asks no policy, and strangers have no business here.
pub(super) fn forbidden() -> Vec<Grant> {
    let mut grants = Vec::new();
    let mut add = |role, verbs: &[&'static str], tables: &[&'static str]| {
        for &table in tables {
            grants.extend(verbs.iter().map(|&verb| Grant {
                table,
                role,
                verb,
                columns: "",
            }));
        }
    };
    add(
        "anon",
        &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"],
        OURS,
    );
    add(AUTHENTICATED, &["TRUNCATE"], OURS);
    add(AUTHENTICATED, &["INSERT", "UPDATE", "DELETE"], &OURS[..2]);
    for table in ["public.likes", "public.skips"] {
        add(
            "anon",
            &["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"],
            &[table],
        );
        add(AUTHENTICATED, &["TRUNCATE"], &[table]);
    }
    grants
}

const fn index(
    table: &'static str,
    name: &'static str,
    columns: &'static str,
    unique: bool,
) -> Index {
    Index {
        table,
        name,
        columns,
        unique,
    }
}

/// Indexes by name.
pub(super) const INDEXES: &[Index] = &[
    index(
        "public.video_embeddings",
        "video_embeddings_pkey",
        "(video_id, model_version)",
        true,
    ),
    index(
        "public.user_embeddings",
        "user_embeddings_pkey",
        "(user_id, model_version)",
        true,
    ),
    index(
        "public.video_embeddings",
        "video_embeddings_updated_at_idx",
        "(model_version, updated_at)",
        false,
    ),
    index(
        "public.user_embeddings",
        "user_embeddings_updated_at_idx",
        "(model_version, updated_at)",
        false,
    ),
    index(
        "twotower.models",
        "models_one_active_idx",
        "(state) WHERE state = 'active'",
        true,
    ),
    index(
        "twotower.experiments",
        "experiments_one_running_idx",
        "((true)) WHERE ended_at IS NULL",
        true,
    ),
    index("twotower.events", "events_at_idx", "(at)", false),
    index(
        "twotower.events",
        "events_experiment_id_idx",
        "(experiment_id) WHERE experiment_id IS NOT NULL",
        false,
    ),
    index(
        "twotower.video_popularity",
        "video_popularity_likes_idx",
        "(likes DESC, video_id)",
        false,
    ),
    index(
        "twotower.job_runs",
        "job_runs_job_started_at_idx",
        "(job, started_at)",
        false,
    ),
];

/// Columns that some index must begin with, whatever its name: the tables may be the application's own.
pub(super) const LEADING: &[(&str, &str)] = &[
    ("public.likes", "user_id"),
    ("public.likes", "video_id"),
    ("public.skips", "user_id"),
    ("public.skips", "video_id"),
];
