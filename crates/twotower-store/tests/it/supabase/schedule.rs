//! The schedule of docs/supabase.md, against stand-ins for `pg_cron`, `pg_net` and the Vault, which
//! record calls for the test to run. Not covered: whether the extensions run on time, and whether a
//! call arrives.

use super::person::Person;
use super::stand_in::{Place, as_superuser};
use crate::database::execute;
use serde_json::{Value, json};

const STAND_INS: &str = "
    CREATE SCHEMA cron;
    CREATE TABLE cron.job (jobname text PRIMARY KEY, schedule text NOT NULL, command text NOT NULL);
    CREATE FUNCTION cron.schedule(text, text, text) RETURNS void LANGUAGE sql AS 'INSERT INTO cron.job VALUES ($1, $2, $3)';
    CREATE SCHEMA net;
    CREATE TABLE net.calls (url text NOT NULL, body jsonb NOT NULL);
    CREATE FUNCTION net.http_post(
        url text, body jsonb DEFAULT '{}', params jsonb DEFAULT '{}', headers jsonb DEFAULT '{}', timeout_milliseconds integer DEFAULT 5000
    ) RETURNS bigint LANGUAGE sql AS 'INSERT INTO net.calls VALUES (url, body) RETURNING 1::bigint';
    CREATE SCHEMA vault;
    CREATE TABLE vault.decrypted_secrets (name text, decrypted_secret text);
    CREATE FUNCTION vault.create_secret(text, text) RETURNS void LANGUAGE sql
        AS 'INSERT INTO vault.decrypted_secrets VALUES ($2, $1)'";

/// The statements of the section.
fn statements() -> Vec<String> {
    let docs = include_str!("../../../../../docs/supabase.md");
    let section = docs
        .split("\n## A schedule in the database\n")
        .nth(1)
        .unwrap();
    let blocks = section.split("```sql\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// Runs the task scheduled as `name`; returns its calls.
async fn run(url: &str, name: &str) -> Vec<Value> {
    let mut owner = Person::owner(url).await;
    owner.run("TRUNCATE net.calls").await.unwrap();
    let command = owner
        .value(&format!(
            "SELECT to_json(command) FROM cron.job WHERE jobname = '{name}'"
        ))
        .await;
    let command = command.unwrap();
    execute(url, command.as_str().unwrap()).await;
    owner.rows("SELECT url, body FROM net.calls").await.unwrap()
}

#[tokio::test]
async fn the_database_calls_the_machine_and_misses_it() {
    let url = as_superuser(&Place::Supabase.migrated().await);
    execute(&url, STAND_INS).await;
    let blocks = statements();
    assert_eq!(blocks.len(), 4);
    for block in &blocks {
        execute(&url, block).await;
    }
    let mut owner = Person::owner(&url).await;
    let jobs = owner.value("SELECT count(*) FROM cron.job").await.unwrap();
    assert_eq!(jobs, json!(6));
    let calls = run(&url, "twotower-update").await;
    assert_eq!(
        calls,
        [json!({ "url": "https://jobs.example.com/start", "body": { "job": "update" } })]
    );
    assert_eq!(
        run(&url, "twotower-retrain").await[0]["body"],
        json!({ "job": "retrain" })
    );

    // Nothing was ever trained, so nothing is late.
    assert!(run(&url, "twotower-watch").await.is_empty());
    for (hours, minutes, told) in [
        (1, 0, false),
        (25, 59, false),
        (26, 5, true),
        (26, 20, false),
        (50, 5, true),
        (51, 0, false),
    ] {
        let row = format!(
            "TRUNCATE twotower.job_runs;
             INSERT INTO twotower.job_runs (job, state, host, pid, finished_at)
             VALUES ('update', 'succeeded', 'a', 1, now() - interval '{hours} hours {minutes} minutes'),
                    ('update', 'failed', 'a', 1, now()), ('maintain', 'succeeded', 'a', 1, now())"
        );
        execute(&url, &row).await;
        let calls = run(&url, "twotower-watch").await;
        assert_eq!(
            !calls.is_empty(),
            told,
            "{hours} h {minutes} min: {calls:?}"
        );
        if told {
            let text = calls[0]["body"]["text"].as_str().unwrap();
            assert!(
                text.starts_with("twotower: no update has succeeded since 20"),
                "{text}"
            );
        }
    }
    for name in [
        "twotower-vacuum-videos",
        "twotower-vacuum-users",
        "twotower-clean-up",
    ] {
        assert!(run(&url, name).await.is_empty());
    }
}
