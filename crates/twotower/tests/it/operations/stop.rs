//! Work that is asked to stop ends after its step, and says so.

use super::processes::{Locked, log, send, start, wait_for};
use crate::support::{Workplace, new_postgres, sql};
use std::fmt::Write;
use std::fs;

/// More than one transaction of the import takes.
const VIDEOS: usize = 30_000;

/// Of one transaction.
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
