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
