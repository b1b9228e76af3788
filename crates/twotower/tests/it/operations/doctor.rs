//! `twotower doctor` on healthy installations, and on ones with a single fault each.

mod bundle;

mod certificate;

mod documents;

#[cfg(target_os = "linux")]
mod hanging;

mod schema;

mod server;

use crate::life_cycle::place::Place;
use crate::s3_server::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use crate::support::{Workplace, sql};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use twotower::operations::check::{CATALOGUE, Needs, Scope, Verdict, examine};
use twotower::operations::{self};
use twotower_store::{FinishedRun, NewRun, RunState};

/// Thresholds that a machine of any size meets, and that random weights meet.
const SMALL: &str =
    "[update]\ngate = false\n[checks]\ndisk_mb = 1\nmemory_mb = 1\nconnections = 1000\n";

/// The command without this machine's environment.
fn doctor(place: &Workplace, line: &str) -> Command {
    let mut command = place.command(&format!("--json doctor {line}"));
    for name in [
        "SUPABASE_URL",
        "TWOTOWER_LOG_FILE",
        "TWOTOWER_SIGNING_KEY_FILE",
        "TWOTOWER_JWT_SECRET_FILE",
        "TWOTOWER_PROBE_TOKEN_FILE",
        "TWOTOWER_ENV",
    ] {
        command.env_remove(name);
    }
    command
}

fn told(mut command: Command) -> (Option<i32>, Value) {
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        value.unwrap_or_else(|error| panic!("{error}: {log}")),
    )
}

/// The finding of a check; for a check with several, the one about `subject`.
fn finding(value: &Value, check: &str, subject: Option<&str>) -> (String, String, String) {
    let findings = value["findings"].as_array().unwrap();
    let mut own = findings
        .iter()
        .filter(|finding| finding["check"] == check && finding["subject"] == json!(subject));
    let found = own
        .next()
        .unwrap_or_else(|| panic!("no {check} of {subject:?}: {value:#}"));
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("verdict"), text("evidence"), text("fix"))
}

/// Runs one check, and expects it to fail with these words in evidence and fix.
fn wrong(place: &Workplace, check: &str, subject: Option<&str>, evidence: &str, fix: &str) {
    let (code, value) = told(doctor(place, &format!("--only {check}")));
    let (verdict, seen, remedy) = finding(&value, check, subject);
    assert_eq!(
        (verdict.as_str(), code),
        ("failed", Some(1)),
        "{check}: {seen}"
    );
    assert!(seen.contains(evidence), "{check}: {seen}");
    assert!(remedy.contains(fix), "{check}: {remedy}");
}

/// Activates a model with its vectors.
fn served(place: &Place) {
    place.configure(SMALL);
    place.next_model();
    place.json("update");
}

#[test]
fn a_place_that_is_well_has_nothing_failed() {
    for place in Place::on_both() {
        served(&place);
        let (code, value) = told(doctor(&place, ""));
        assert_eq!((code, &value["failed"]), (Some(0), &json!(0)), "{value:#}");
        let told: Vec<&str> = value["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["check"].as_str().unwrap())
            .collect();
        for check in CATALOGUE {
            assert!(told.contains(&check.name), "nothing of {}", check.name);
        }
        for check in [
            "database-reachable",
            "migrations",
            "model-files",
            "dimension",
            "vectors-fresh",
            "vectors-complete",
        ] {
            assert_eq!(finding(&value, check, None).0, "passed", "{check}");
        }
        assert_eq!(finding(&value, "data-sufficiency", None).0, "warned");
        let embedded = place.url.starts_with("sqlite");
        let expected = if embedded { "skipped" } else { "passed" };
        let of_servers = CATALOGUE
            .iter()
            .filter(|check| check.needs == Needs::DatabaseServer);
        for check in of_servers.map(|check| check.name) {
            let (verdict, evidence, _) = finding(&value, check, None);
            assert_eq!(verdict, expected, "{check}: {evidence}");
            assert_eq!(evidence == "embedded database", embedded, "{check}");
        }
        let load = finding(&value, "database-load", None);
        assert_eq!(load.1 == "embedded database", embedded, "{load:?}");
        let line = place.run("doctor");
        let log = String::from_utf8_lossy(&line.stderr);
        assert!(log.contains("doctor completed successfully"), "{log}");
    }
}

#[test]
fn vectors_that_are_old_missing_or_of_another_dimension_are_told() {
    let place = Place::on_postgres();
    served(&place);
    sql(
        &place.url,
        "delete from video_embeddings where video_id in (select video_id from video_embeddings limit 5)",
    );
    wrong(
        &place,
        "vectors-complete",
        None,
        "5 of 40 videos have no vector of version 1",
        "twotower run update",
    );
    sql(
        &place.url,
        "insert into user_embeddings (user_id, model_version, embedding, fingerprint) values (gen_random_uuid(), 1, '[0.6,0.8]', 0)",
    );
    wrong(
        &place,
        "dimension",
        None,
        "do not have dimension 8, but 2",
        "--full",
    );
    for table in ["video_embeddings", "user_embeddings"] {
        sql(
            &place.url,
            &format!("update {table} set updated_at = now() - interval '3 days'"),
        );
    }
    sql(
        &place.url,
        "update twotower.models set activated_at = now() - interval '4 days'",
    );
    // Vectors that the Edge Function computes are no update's work, and a clock that was set back
    // leaves times in the future.
    sql(
        &place.url,
        "update user_embeddings set updated_at = now(), fingerprint = 0;
         insert into user_embeddings (user_id, model_version, embedding, fingerprint, updated_at)
         values (gen_random_uuid(), 1, '[0.6,0.8]', 7, now() + interval '1 day')",
    );
    wrong(
        &place,
        "vectors-fresh",
        None,
        "3 days ago",
        "twotower run update",
    );
}

#[test]
fn files_that_changed_are_refused() {
    let place = Place::on_sqlite();
    served(&place);
    let file = place.models().join("1/weights.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    wrong(
        &place,
        "model-files",
        None,
        "weights.safetensors",
        "copy the folder",
    );
    std::fs::rename(place.models().join("1"), place.folder.path().join("away")).unwrap();
    wrong(
        &place,
        "model-files",
        None,
        "holds no model",
        "copy the folder",
    );
}

fn run(place: &Place, job: &str, state: RunState, message: &str) -> i64 {
    let new = NewRun {
        job: job.into(),
        due_at_us: None,
        host: "a".into(),
        pid: 1,
        presumed_dead: Duration::from_hours(24),
    };
    let finished = FinishedRun {
        state,
        attempts: 2,
        exit_code: Some(4),
        model_version: Some(2),
        message: Some(message.into()),
    };
    place.runtime.block_on(async {
        let id = place.store.begin_run(&new).await.unwrap();
        place.store.finish_run(id, &finished).await.unwrap();
        id
    })
}

#[test]
fn runs_that_failed_were_missed_or_slow_are_told() {
    let place = Place::on_postgres();
    served(&place);
    let update = run(&place, "update", RunState::Failed, "the disk is full");
    run(
        &place,
        "retrain",
        RunState::Refused,
        "worse than the one served",
    );
    wrong(
        &place,
        "run-failed",
        Some("update"),
        "2 tries, exit code 4: the disk is full",
        "twotower run update",
    );
    wrong(
        &place,
        "gate-refused",
        None,
        "worse than the one served",
        "twotower models show 2",
    );
    let age = |id, days, minutes| {
        let text = format!(
            "update twotower.job_runs set started_at = now() - interval '{days} days', finished_at = now() - interval '{days} days' + interval \
             '{minutes} minutes' where id = {id}"
        );
        sql(&place.url, &text);
    };
    age(update, 3, 5);
    wrong(
        &place,
        "run-missed",
        Some("update"),
        "update was due",
        "twotower run update",
    );
    let slow = run(&place, "update", RunState::Succeeded, "");
    age(slow, 0, 31);
    wrong(
        &place,
        "run-slow",
        None,
        "took 31 min",
        "twotower maintain --now",
    );
    let backup = run(&place, "backup", RunState::Succeeded, "");
    age(backup, 2, 1);
    wrong(
        &place,
        "backup-age",
        None,
        "made 47 h ago",
        "twotower run backup",
    );
}

#[test]
fn a_newer_version_that_was_refused_is_told_until_another_is_served() {
    let place = Place::on_sqlite();
    served(&place);
    place.next_model();
    // Random weights are no better than chance.
    place.configure("");
    place.refused("update", 5);
    wrong(
        &place,
        "gate-refused",
        None,
        "version 2 was refused",
        "twotower models promote 2 --force",
    );
    let verdict = json!({"checks": "well"});
    let kept = place.store.record_verdict(2, &verdict);
    place.runtime.block_on(kept).unwrap();
    wrong(
        &place,
        "gate-refused",
        None,
        "version 2 was refused: what the gate said cannot be read",
        "twotower models show 2",
    );
    place.json("models promote 2 --force");
    let (_, value) = told(doctor(&place, "--only gate-refused"));
    assert_eq!(finding(&value, "gate-refused", None).0, "passed");
}

#[test]
fn connections_near_the_limit_are_told() {
    let place = Place::on_postgres();
    place.configure("[checks]\nconnections = 1");
    wrong(
        &place,
        "connections",
        None,
        "fewer than 1 should be",
        "max_connections",
    );
}

#[test]
fn a_database_that_is_away_is_one_finding_and_the_rest_cannot_be_asked() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let place = Workplace::on_postgres(format!("postgresql://me:canary-password@{nobody}/x"));
    place.configure(SMALL);
    let (code, value) = told(doctor(&place, ""));
    let (verdict, evidence, fix) = finding(&value, "database-reachable", None);
    assert_eq!((verdict.as_str(), code), ("failed", Some(1)), "{evidence}");
    assert!(
        fix.contains("DATABASE_URL") && !value.to_string().contains("canary"),
        "{value}"
    );
    assert_eq!(value["failed"], 1, "{value:#}");
    let asking = CATALOGUE
        .iter()
        .filter(|check| check.needs != Needs::Others);
    for check in asking.skip(1) {
        let (verdict, evidence, fix) = finding(&value, check.name, None);
        assert_eq!(verdict, "skipped", "{}", check.name);
        assert_eq!(evidence, "the database cannot be asked", "{}", check.name);
        assert_eq!(fix, "see database-reachable", "{}", check.name);
    }

    let place = Workplace::on_sqlite();
    wrong(
        &place,
        "database-reachable",
        None,
        "there is no file",
        "twotower migrate",
    );
    assert!(!place.folder.path().join("test.db").exists());
}

/// A server that accepts connections and never answers must not delay the watched checks.
#[test]
fn what_is_watched_is_looked_at_even_if_everything_hangs() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[run]\nstate_dir = \"{0}/state\"\n[training]\noutput_dir = \"{0}/models\"\n[checks]\ndisk_mb = 1\nmemory_mb = 1\nserver = \
         \"http://{address}\"\nserver_metrics = \"http://{address}/metrics\"\ncertificate_hosts = [\"{address}\"]",
        folder.path().display()
    );
    let place = operations::Place {
        db_url: format!("postgresql://me@{address}/x"),
        config_file: None,
        config: twotower::config::Config::parse(&text, std::path::Path::new("x.toml")).unwrap(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // In a task, like the scheduler does.
    let task = runtime.spawn(async move { examine(&place, Scope::Watched).await });
    let found = runtime.block_on(task).unwrap();
    runtime.shutdown_background();
    for check in CATALOGUE {
        let told = found.iter().any(|finding| finding.check == check.name);
        assert_eq!(told, check.watched.is_some(), "{}", check.name);
    }
    let verdict = |name: &str| {
        found
            .iter()
            .find(|finding| finding.check == name)
            .unwrap()
            .verdict
    };
    assert_eq!(verdict("database-reachable"), Verdict::Failed);
    assert_eq!(verdict("server-ready"), Verdict::Failed);
    assert_eq!(verdict("server-current"), Verdict::Skipped);
    assert_eq!(verdict("server-errors"), Verdict::Skipped);
    assert_eq!(verdict("certificate"), Verdict::Skipped);
    assert_eq!(verdict("run-missed"), Verdict::Skipped);
}

#[test]
fn a_bucket_that_answers_strangers_is_critical() {
    let server = S3Server::start();
    let place = Workplace::on_sqlite();
    place.json("migrate");
    place.configure("[storage]\nurl = \"s3://models\"\nregion = \"us-east-1\"");
    let look = || {
        let mut command = doctor(&place, "--only bucket-private");
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .env("AWS_ENDPOINT_URL", server.endpoint());
        let (_, value) = told(command);
        finding(&value, "bucket-private", None)
    };
    let (verdict, evidence, _) = look();
    assert_eq!(verdict, "passed", "{evidence}");
    server.set_public(true);
    let (verdict, evidence, fix) = look();
    assert_eq!(verdict, "failed", "{evidence}");
    assert!(fix.contains("private"), "{fix}");
}

#[cfg(unix)]
#[test]
fn files_of_secrets_that_variables_name_are_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let place = Workplace::on_sqlite();
    place.json("migrate");
    let database = place.folder.path().join("test.db");
    std::fs::set_permissions(database, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = place.folder.path().join("secret");
    std::fs::write(&file, "smtps://me:canary@host:465").unwrap();
    let look = |variable: &str, mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = doctor(&place, "--only secrets-readable");
        command.env(variable, &file);
        let (_, value) = told(command);
        finding(&value, "secrets-readable", None)
    };
    for (variable, mode, verdict) in [
        ("TWOTOWER_SMTP_URL_FILE", 0o644, "failed"),
        ("TWOTOWER_SMTP_URL_FILE", 0o600, "passed"),
        ("TWOTOWER_PROBE_TOKEN_FILE", 0o640, "failed"),
        // The file of the jobs' variables is for its group as well.
        ("TWOTOWER_ENV", 0o644, "failed"),
        ("TWOTOWER_ENV", 0o640, "passed"),
    ] {
        let (seen, evidence, fix) = look(variable, mode);
        assert_eq!(seen, verdict, "{variable} {mode:o}: {evidence}");
        assert!(seen == "passed" || fix.starts_with("chmod 6"), "{fix}");
    }
}

#[test]
fn names_that_do_not_exist_are_refused() {
    let place = Workplace::on_sqlite();
    let said = place.refused("doctor --only pgvectr", 2);
    assert!(said.contains("pgvector"), "{said}");
}
