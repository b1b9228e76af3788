-- What a user does not want to see.
CREATE TABLE recommendation_blocks (
    user_id    BLOB NOT NULL CHECK (length(user_id) = 16),
    kind       TEXT NOT NULL CHECK (kind IN ('video', 'maker', 'performer', 'tag', 'genre')),
    value      TEXT NOT NULL CHECK (length(value) BETWEEN 1 AND 200),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, kind, value)
) STRICT, WITHOUT ROWID;

-- When it came into the catalogue; unknown of those that came before this column.
ALTER TABLE videos ADD COLUMN created_at INTEGER;

-- What was written since a server last asked.
CREATE INDEX video_embeddings_updated_at ON video_embeddings (model_version, updated_at);
CREATE INDEX user_embeddings_updated_at ON user_embeddings (model_version, updated_at);

-- Two versions served side by side: a hash of the salt and a user's id tells their arm.
CREATE TABLE twotower_experiments (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    control_version    INTEGER NOT NULL REFERENCES twotower_models (version),
    challenger_version INTEGER NOT NULL REFERENCES twotower_models (version) CHECK (challenger_version <> control_version),
    share              REAL NOT NULL CHECK (share > 0 AND share < 1),
    salt               BLOB NOT NULL DEFAULT (randomblob(16)) CHECK (length(salt) = 16),
    started_at         INTEGER NOT NULL,
    ended_at           INTEGER,
    started_by         TEXT NOT NULL,
    reason             TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX twotower_experiments_one_running ON twotower_experiments ((1)) WHERE ended_at IS NULL;

-- What users did with what they were shown.
CREATE TABLE twotower_events (
    user_id        BLOB NOT NULL CHECK (length(user_id) = 16),
    event_id       BLOB NOT NULL CHECK (length(event_id) = 16),
    kind           TEXT NOT NULL CHECK (kind IN ('impression', 'view', 'like', 'skip')),
    video_id       BLOB NOT NULL,
    model_version  INTEGER,
    experiment_id  INTEGER REFERENCES twotower_experiments (id),
    arm            TEXT CHECK (arm IN ('control', 'challenger')),
    request_id     TEXT CHECK (length(request_id) BETWEEN 1 AND 64),
    position       INTEGER CHECK (position BETWEEN 1 AND 100),
    watch_fraction REAL CHECK (watch_fraction BETWEEN 0 AND 1),
    at             INTEGER NOT NULL,
    PRIMARY KEY (user_id, event_id),
    CHECK ((experiment_id IS NULL) = (arm IS NULL)),
    CHECK (watch_fraction IS NULL OR kind = 'view')
) STRICT, WITHOUT ROWID;

CREATE INDEX twotower_events_at ON twotower_events (at);
CREATE INDEX twotower_events_experiment ON twotower_events (experiment_id) WHERE experiment_id IS NOT NULL;
