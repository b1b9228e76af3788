//! Work that is asked to stop ends after its step, and reports that.

use super::processes::{Locked, child_running, log, send, start, wait_for};
use crate::life_cycle::place::Place;
use crate::support::{Workplace, new_postgres, psql_command, sql};
use std::fmt::Write;
use std::fs;

/// More than one transaction of the import holds.
const VIDEOS: usize = 30_000;

/// Rows of one transaction.
const BATCH: &str = "20000";

#[test]
fn an_import_stops_between_two_batches_and_goes_on_when_it_is_repeated() {
    let place = Workplace::on_postgres(new_postgres());
    let mut videos = "id,title\n".to_owned();
    for number in 1..=VIDEOS {
        writeln!(videos, "{number},video {number}").unwrap();
    }
    fs::write(place.folder.path().join("videos.csv"), videos).unwrap();
    place.json("migrate");
    let locked = Locked::table(&place.url, "videos");
    let import = start(place.command("--log-file import.log import videos.csv"));
    locked.wait_for_somebody();
    send("TERM", import.id());
    let logged = place.folder.path().join("import.log");
    wait_for("word of the signal", || {
        let text = fs::read_to_string(&logged).unwrap_or_default();
        text.contains("stopping; what is under way").then_some(())
    });
    drop(locked);
    let output = import.wait_with_output().unwrap();
    let said = log(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains(&format!("videos.csv: {BATCH} rows are imported and stay")),
        "{said}"
    );
    let count = "SELECT count(*) FROM videos";
    assert_eq!(sql(&place.url, count), BATCH);
    let report = place.json("import videos.csv");
    assert_eq!(report["files"][0]["inserted"], 10_000);
    assert_eq!(sql(&place.url, count), VIDEOS.to_string());
}

/// Stopped during the check of vectors, which takes long if there are many.
#[test]
fn a_promotion_that_is_stopped_switches_nobody_and_lets_the_next_one_publish() {
    let place = Place::on_postgres();
    let version = place.next_model();
    place.json("update --no-activate");
    let line = format!("models promote {version}");
    let locked = Locked::from_readers(&place.url, "video_embeddings");
    let promotion = start(place.command(&line));
    locked.wait_for_somebody();
    send("TERM", promotion.id());
    let output = promotion.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", log(&output));
    drop(locked);
    assert_eq!(place.active(), None);
    place.json(&line);
    assert_eq!(place.active(), Some(version));
}

/// Finished work is not repeated, even if the process was stopped before it recorded the end.
#[test]
fn a_run_that_is_stopped_while_it_writes_its_end_down_is_not_run_again() {
    let place = Place::on_postgres();
    place.next_model();
    let vectors = Locked::vectors(&place.url);
    let run = start(place.command("run update --due 1795651200000000"));
    vectors.wait_for_somebody();
    let note = place.folder.path().join("state/update.lock");
    assert!(fs::read_to_string(&note).unwrap().contains("due_at_us"));
    let rows = Locked::table(&place.url, "twotower.job_runs");
    drop(vectors);
    rows.wait_for_somebody();
    assert_eq!(fs::read_to_string(&note).unwrap(), "");
    send("TERM", run.id());
    let output = run.wait_with_output().unwrap();
    let said = log(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("the end of the run is not written down"),
        "{said}"
    );
    drop(rows);
    assert_eq!(place.active(), Some(1));
}

/// Failed work was not done, and the failure is not recorded: the run counts as cut off.
#[test]
fn a_run_that_failed_and_is_stopped_while_it_writes_that_down_was_cut_off() {
    let place = Place::on_postgres();
    place.configure("[run]\npause_seconds = 0\nattempts = 1\n");
    place.next_model();
    let vectors = Locked::vectors(&place.url);
    let run = start(place.command("run update --due 1795651200000000"));
    let child = wait_for("the update", || child_running(run.id(), "update"));
    vectors.wait_for_somebody();
    let rows = Locked::table(&place.url, "twotower.job_runs");
    // As if the machine ran out of memory.
    send("KILL", child);
    rows.wait_for_somebody();
    let note = place.folder.path().join("state/update.lock");
    let kept = || fs::read_to_string(&note).unwrap();
    assert!(kept().contains("1795651200000000"), "{}", kept());
    send("TERM", run.id());
    let output = run.wait_with_output().unwrap();
    let said = log(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the end of the run is not written down"),
        "{said}"
    );
    assert!(kept().contains("1795651200000000"), "{}", kept());
}

/// While another process applies its migrations.
#[test]
fn a_migration_that_is_stopped_leaves_nothing() {
    let place = Workplace::on_postgres(new_postgres());
    let migrating = "SELECT pg_advisory_lock(8392298976505193842); SELECT pg_sleep(60)";
    let mut other = psql_command(&place.url, migrating).spawn().unwrap();
    let wait_until_one = |which: &str| {
        let count = format!(
            "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database \
             WHERE locktype = 'advisory' AND datname = current_database() AND {which}"
        );
        wait_for(which, || (sql(&place.url, &count) == "1").then_some(()));
    };
    wait_until_one("granted");
    let migration = start(place.command("migrate"));
    wait_until_one("NOT granted");
    send("TERM", migration.id());
    let output = migration.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", log(&output));
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE query LIKE '%pg_sleep(60)' AND datname = current_database() AND pid <> pg_backend_pid()";
    sql(&place.url, end);
    let _ = other.wait();
    let nothing = "SELECT to_regclass('supabase_migrations.schema_migrations') IS NULL";
    assert_eq!(sql(&place.url, nothing), "t");
    place.json("migrate");
}

#[test]
fn a_search_for_an_erased_id_is_stopped_when_the_user_is_erased() {
    let place = Workplace::on_postgres(new_postgres());
    place.json("migrate");
    // A sparse file that takes longer to read than the test waits.
    let file = fs::File::create(place.folder.path().join("long")).unwrap();
    file.set_len(1 << 40).unwrap();
    let erasure = start(place.command("erase --user 7 --verify --also long"));
    wait_for("the erasure", || {
        (sql(&place.url, "SELECT count(*) FROM twotower.tombstones") == "1").then_some(())
    });
    send("TERM", erasure.id());
    let output = erasure.wait_with_output().unwrap();
    let said = log(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    // The signal may arrive in either phase: during the search of tables or of the file.
    assert!(
        said.contains("the user is erased; look for what is left: "),
        "{said}"
    );
    assert!(said.contains(": interrupted; "), "{said}");
}
