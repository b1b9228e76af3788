-- Ids are 16 bytes in the order in which UUIDs are written, so that they sort as PostgreSQL sorts them. Times are
-- microseconds since 1970 (UTC). Vectors are little-endian 32-bit floats.

CREATE TABLE videos (
    id               BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    title            TEXT NOT NULL DEFAULT '',
    description      TEXT NOT NULL DEFAULT '',
    genre            TEXT,
    maker            TEXT,
    price            REAL,
    duration_seconds REAL,
    published_at     INTEGER,
    thumbnail_url    TEXT
) STRICT;

CREATE TABLE tags (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE video_tags (
    video_id BLOB NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    tag_id   INTEGER NOT NULL REFERENCES tags (id) ON DELETE CASCADE,
    PRIMARY KEY (video_id, tag_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE performers (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE video_performers (
    video_id     BLOB NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    performer_id INTEGER NOT NULL REFERENCES performers (id) ON DELETE CASCADE,
    PRIMARY KEY (video_id, performer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE likes (
    user_id    BLOB NOT NULL CHECK (length(user_id) = 16),
    video_id   BLOB NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, video_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE skips (
    user_id    BLOB NOT NULL CHECK (length(user_id) = 16),
    video_id   BLOB NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, video_id)
) STRICT, WITHOUT ROWID;

-- The version comes first in the key: a generation is read as a whole, in order of id.
CREATE TABLE video_embeddings (
    video_id      BLOB NOT NULL,
    model_version INTEGER NOT NULL,
    embedding     BLOB NOT NULL,
    fingerprint   INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (model_version, video_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_embeddings (
    user_id       BLOB NOT NULL,
    model_version INTEGER NOT NULL,
    embedding     BLOB NOT NULL,
    fingerprint   INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (model_version, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE twotower_model_versions (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    last      INTEGER NOT NULL
) STRICT;

INSERT INTO twotower_model_versions VALUES (1, 0);

CREATE TABLE twotower_models (
    version         INTEGER PRIMARY KEY,
    state           TEXT NOT NULL CHECK (state IN ('loading', 'candidate', 'active', 'retired', 'failed')),
    embedding_dim   INTEGER NOT NULL CHECK (embedding_dim > 0),
    created_at      INTEGER NOT NULL,
    activated_at    INTEGER,
    retired_at      INTEGER,
    cut_off         INTEGER,
    snapshot_sha256 TEXT NOT NULL,
    hyperparameters TEXT NOT NULL,
    metrics         TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    reason          TEXT
) STRICT;

CREATE UNIQUE INDEX twotower_models_one_active ON twotower_models (state) WHERE state = 'active';

CREATE TABLE twotower_active_model (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    version   INTEGER NOT NULL REFERENCES twotower_models (version)
) STRICT;
