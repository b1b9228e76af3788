-- Who was erased, as a hash that only this file can compute: SHA-256 over the salt and the 16 bytes of the id.
CREATE TABLE twotower_tombstone_salt (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    salt      BLOB NOT NULL CHECK (length(salt) = 32)
) STRICT;

INSERT INTO twotower_tombstone_salt VALUES (1, randomblob(32));

-- Numbers are never given again: a model remembers the highest that its data knew of.
CREATE TABLE twotower_tombstones (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    user_hash BLOB NOT NULL UNIQUE CHECK (length(user_hash) = 32),
    erased_at INTEGER NOT NULL
) STRICT;

ALTER TABLE twotower_models ADD COLUMN erasures_seen INTEGER;
ALTER TABLE twotower_models ADD COLUMN pruned_at INTEGER;
