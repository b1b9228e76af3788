-- Which version was active when, by whom and why.
CREATE TABLE twotower_model_activations (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    version          INTEGER NOT NULL REFERENCES twotower_models (version),
    activated_at     INTEGER NOT NULL,
    kind             TEXT NOT NULL CHECK (kind IN ('loaded', 'promotion', 'rollback')),
    activated_by     TEXT NOT NULL,
    reason           TEXT NOT NULL,
    previous_version INTEGER REFERENCES twotower_models (version),
    forced           INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO twotower_model_activations (version, activated_at, kind, activated_by, reason, previous_version)
SELECT version, activated_at, 'loaded', 'unknown', coalesce(reason, ''), lag(version) OVER activations
FROM twotower_models WHERE activated_at IS NOT NULL
WINDOW activations AS (ORDER BY state = 'active', activated_at, version)
ORDER BY state = 'active', activated_at, version;

-- One row: the publisher, who alone writes vectors and switches readers. Taking it over raises `fence`, and every write of a
-- publisher asks for its own fence first.
CREATE TABLE twotower_publisher (
    singleton  INTEGER PRIMARY KEY CHECK (singleton = 1),
    fence      INTEGER NOT NULL,
    host       TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

INSERT INTO twotower_publisher VALUES (1, 0, '', 0, 0, 0);
