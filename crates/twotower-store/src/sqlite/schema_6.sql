-- What ran when and how it ended.
CREATE TABLE twotower_job_runs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    job           TEXT NOT NULL,
    state         TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'failed', 'refused', 'skipped')),
    due_at        INTEGER,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    host          TEXT NOT NULL,
    pid           INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 1 CHECK (attempts >= 1),
    exit_code     INTEGER,
    model_version INTEGER,
    message       TEXT CHECK (length(message) <= 2000),
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT;

CREATE INDEX twotower_job_runs_job ON twotower_job_runs (job, started_at);
