//! A reader inside the database that repeats an application's join of user and video vectors during
//! faults.

use crate::support::{psql_command, sql};
use std::process::{Child, Stdio};

/// Reads until it is stopped; only on PostgreSQL.
pub(super) struct Watch {
    url: String,
    reader: Child,
}

/// Observations of a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reads {
    pub(super) all: u64,
    /// Number of answers that mixed two generations.
    pub(super) mixed: u64,
}

/// The scores of some users for all videos, and the number of users with a vector; versions
/// alternate between two models, whose results are recorded at the start.
const READER: &str = "
CREATE TABLE IF NOT EXISTS torture_expected (turn bigint PRIMARY KEY, digest text NOT NULL);
CREATE TABLE IF NOT EXISTS torture_stop (stop boolean);
CREATE TABLE IF NOT EXISTS torture_seen (all_reads bigint, mixed bigint);
TRUNCATE torture_stop, torture_seen;
CREATE OR REPLACE FUNCTION torture_digest(seen bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT md5(string_agg(u.user_id::text || v.video_id || (u.embedding <#> v.embedding)::text, ',' ORDER BY u.user_id, v.video_id))
           || (SELECT count(*) FROM user_embeddings WHERE model_version = seen)
    FROM user_embeddings u JOIN video_embeddings v USING (model_version)
    WHERE model_version = seen AND u.user_id::text LIKE '%7'
$$;
INSERT INTO torture_expected
SELECT DISTINCT ON (version % 2) version % 2, torture_digest(version) FROM twotower.models
WHERE state IN ('active', 'retired') ORDER BY version % 2, version DESC
ON CONFLICT DO NOTHING;
CREATE OR REPLACE PROCEDURE torture_read() LANGUAGE plpgsql AS $$
DECLARE
    one record;
    all_reads bigint := 0;
    mixed bigint := 0;
BEGIN
    LOOP
        SELECT version, torture_digest(version) AS digest INTO one FROM twotower.active_model;
        all_reads := all_reads + 1;
        IF one.digest IS DISTINCT FROM (SELECT digest FROM torture_expected WHERE turn = one.version % 2) THEN
            mixed := mixed + 1;
        END IF;
        COMMIT;
        EXIT WHEN EXISTS (SELECT FROM torture_stop);
        PERFORM pg_sleep(0.002);
    END LOOP;
    INSERT INTO torture_seen VALUES (all_reads, mixed);
END $$";

impl Watch {
    pub(super) fn begin(url: &str) -> Self {
        sql(url, READER);
        let reader = psql_command(url, "CALL torture_read()")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            url: url.to_owned(),
            reader,
        }
    }

    pub(super) fn end(mut self) -> Reads {
        sql(&self.url, "INSERT INTO torture_stop VALUES (true)");
        assert!(
            self.reader.wait().unwrap().success(),
            "the reader has failed"
        );
        let seen = sql(&self.url, "SELECT all_reads, mixed FROM torture_seen");
        let (all, mixed) = seen.split_once('|').unwrap();
        Reads {
            all: all.parse().unwrap(),
            mixed: mixed.parse().unwrap(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}
