//! What all commands have in common: database, output, exit code.

use crate::support::Workplace;
use serde_json::json;
use std::fs;
use std::process::{Command, Output};
use twotower::import::id;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An empty database with its schema.
fn empty() -> Workplace {
    let place = Workplace::on_sqlite();
    place.json("migrate");
    place
}

/// Removes variables of the environment that runs the tests.
fn without_keys(mut command: Command) -> Output {
    for variable in [
        "TWOTOWER_JWT_SECRET",
        "SUPABASE_JWT_SECRET",
        "TWOTOWER_JWT_SECRET_FILE",
        "SUPABASE_JWKS",
        "DATABASE_REPLICA_URL",
    ] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

#[test]
fn only_what_fills_a_database_makes_one() {
    let place = Workplace::on_sqlite();
    let file = place.folder.path().join("test.db");
    for line in [
        "export --to out",
        "train",
        "tune",
        "evaluate",
        "update",
        "update --dry-run",
        "models list",
        "rollback",
        "experiment report",
        "erase --user 7",
        "prune",
        "serve",
        "run update",
        "schedule",
        "schedule --once",
        "maintain --now",
        "backup",
    ] {
        let log = place.refused(line, 2);
        let told = log.contains("there is no file") && log.contains("DATABASE_URL");
        assert!(told && !log.contains("completed"), "{line}: {log}");
        assert!(!file.exists(), "{line}");
    }
    for line in [
        "doctor --only database-reachable",
        "import videos-nowhere.csv",
        // A restore would apply the schema; a dry run reads only the backup.
        "restore backups --dry-run",
    ] {
        place.refused(line, 1);
        assert!(!file.exists(), "{line}");
    }
    place.json("migrate");
    place.json("maintain --now");
}

#[test]
fn the_default_file_is_named_where_it_is_missing() {
    let place = Workplace::on_sqlite();
    let unset = |line: &str| {
        let mut command = place.command(line);
        command.env_remove("DATABASE_URL").output().unwrap()
    };
    let output = unset("erase --user 7");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("there is no file twotower.db"),
        "{}",
        said(&output)
    );
    fs::write(
        place.folder.path().join("videos.csv"),
        "id,title\n1,first\n",
    )
    .unwrap();
    let output = unset("import videos.csv");
    assert!(output.status.success(), "{}", said(&output));
    assert!(unset("erase --user 7").status.success());
}

#[test]
fn an_empty_address_counts_as_none() {
    let place = Workplace::on_sqlite();
    let of_default = place.folder.path().join("twotower.db");
    // `--db-url "$DATABASE_URL"` with a variable that is set, and with one that is not.
    let run = |variable: &str| {
        let mut command = place.command("migrate --db-url");
        command.arg("").env("DATABASE_URL", variable);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    run(&place.url);
    assert!(place.folder.path().join("test.db").exists() && !of_default.exists());
    run("");
    assert!(of_default.exists());
}

#[test]
fn whoever_was_imported_under_another_id_is_erased_under_it() {
    let place = Workplace::on_sqlite();
    for (name, content) in [
        ("videos.csv", "id,title\n1,first\n"),
        (
            "likes.csv",
            "user_id,video_id,created_at\nmember-76,1,2026-01-01\n76,1,2026-01-01\n",
        ),
    ] {
        fs::write(place.folder.path().join(name), content).unwrap();
    }
    place.json("import videos.csv likes.csv");
    for name in ["member-76", "76"] {
        let erased = place.json(&format!("erase --user {name}"));
        assert_eq!(erased["likes"], 1);
        assert_eq!(erased["user"], json!(id::from_text(name).unwrap()));
    }
    let output = place.run("erase --user member-76 --verify");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && shown.contains("searched for the UUID alone"),
        "{shown}"
    );
    let output = place.run("erase --user member-77");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = id::from_text("member-77").unwrap();
    assert!(
        shown.starts_with(&format!("the id stands for user {expected}\n")),
        "{shown}"
    );
    assert!(
        said(&output).contains("look whether the id is spelt as it was when it was imported"),
        "{}",
        said(&output)
    );
}

#[test]
fn an_erasure_of_nobody_is_told() {
    let place = empty();
    let (right, wrong) = (
        "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3e",
        "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3g",
    );
    // Taken as text, it would name another user.
    let log = place.refused(&format!("erase --user {wrong}"), 2);
    let told = log.contains("nobody was erased") && log.contains("--as-text");
    assert!(told && !log.contains(wrong), "{log}");
    let erased = place.json(&format!("erase --user {wrong} --as-text"));
    assert_eq!(erased["user"], json!(id::from_text(wrong).unwrap()));
    assert_eq!(erased["first_time"], true);
    // A user without likes gets a tombstone too.
    let output = place.run(&format!("erase --user {right} --verify"));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    assert!(
        shown.starts_with("erased: there was no like, skip or vector of this user\n"),
        "{shown}"
    );
    assert!(
        said(&output).contains("look whether the id is the right one"),
        "{}",
        said(&output)
    );
    let again = place.run(&format!("erase --user {right}"));
    assert!(!said(&again).contains("WARN"), "{}", said(&again));
}

#[test]
fn an_import_of_which_nothing_came_in_is_a_failure() {
    let place = empty();
    for (name, content) in [
        ("videos.csv", "id,title\n1,first\n"),
        (
            "likes.csv",
            "user_id,video_id,created_at\nann,2,2026-01-01\nben,3,2026-01-01\n",
        ),
    ] {
        fs::write(place.folder.path().join(name), content).unwrap();
    }
    let log = place.refused("import likes.csv videos.csv --on-error skip", 1);
    assert!(
        log.contains("nothing of likes.csv was imported") && !log.contains("completed"),
        "{log}"
    );
    // The other rows are imported.
    let again = place.json("import videos.csv");
    assert_eq!(again["files"][0]["unchanged"], 1);
}

#[test]
fn what_serve_cannot_be_started_with_is_wrong_usage() {
    let place = empty();
    fs::write(place.folder.path().join("short"), "short").unwrap();
    for (line, reason) in [
        ("serve", "no key to verify tokens with"),
        (
            "serve --jwt-secret-file nowhere",
            "read the JWT secret nowhere",
        ),
        ("serve --jwt-secret-file short", "has 5 bytes"),
        (
            "serve --jwks http://keys.example/jwks",
            "--jwks must be an https:// address",
        ),
        ("serve --jwks nowhere.json", "read the JWKS"),
        (
            "serve --console --listen 0.0.0.0:0",
            "--console-on-any-address",
        ),
        (
            "serve --replica-url postgresql://me@localhost/x",
            "the database is a file",
        ),
        (
            "serve --db-url mysql://a/b",
            "`mysql://a/b` is no database address",
        ),
        ("serve --db-url postgresql://me@host:x/y", "cannot connect"),
        (
            "models list --db-url postgresql://me@db.example/x?sslmode=disable",
            "sslmode=disable",
        ),
    ] {
        // Port 0, in case it serves nevertheless.
        let line = if line.starts_with("serve") && !line.contains("--listen") {
            format!("{line} --listen 127.0.0.1:0")
        } else {
            line.to_owned()
        };
        let output = without_keys(place.command(&line));
        let log = said(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {log}");
        assert!(log.contains(reason), "{line}: {log}");
    }
}

#[test]
fn a_reader_who_has_gone_is_no_failure() {
    let place = empty();
    for line in ["migrate", "--json models list", "openapi"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(line).stdout(writer).output().unwrap();
        let log = said(&output);
        assert!(output.status.success(), "{line}: {log}");
        assert!(!log.contains("ERROR"), "{line}: {log}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_told_and_what_was_done_is_done() {
    let full = || fs::File::create("/dev/full").unwrap();
    let place = Workplace::on_sqlite();
    for line in ["migrate", "openapi", "completions bash"] {
        let output = place.command(line).stdout(full()).output().unwrap();
        let log = said(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {log}");
        assert!(
            log.contains("cannot be written to standard output"),
            "{line}: {log}"
        );
        assert!(
            !log.contains("panicked") && !log.contains("completed successfully"),
            "{line}: {log}"
        );
    }
    assert_eq!(place.json("migrate")["applied"], json!([]));
    // A failure of the work itself keeps its exit code.
    let output = place.command("train").stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    // A full disk under the log does not stop work either.
    let output = place.command("migrate").stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}
