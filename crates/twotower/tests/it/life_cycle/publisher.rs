//! Only one process publishes at a time, however processes end.

use super::place::{Place, whole};
use crate::support::sql;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use twotower_store::{EmbeddingRow, StoreError, VectorTable};
use uuid::Uuid;

const LONG: Duration = Duration::from_mins(10);

#[test]
fn the_second_says_who_publishes_and_does_nothing() {
    for place in Place::on_both() {
        place.next_model();
        let lease = place.take_lease(LONG);
        let held = place.json("update");
        assert_eq!(
            (&held["held_by"]["host"], &held["held_by"]["pid"]),
            (&"elsewhere".into(), &4711.into())
        );
        let output = place.run("update");
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains(
                "process 4711 on elsewhere has been publishing since 2026-01-01T00:00:00"
            ),
            "{said}"
        );
        assert!(place.vectors().is_empty() && place.active().is_none());
        // A switch that was requested explicitly must not be skipped silently.
        assert!(place.refused("models promote 1", 4).contains("elsewhere"));
        let release = place.store.release_lease(lease);
        place.runtime.block_on(release).unwrap();
        assert_eq!(place.json("update")["activated"], true);
        assert_eq!(place.vectors(), [whole(1)]);
    }
}

#[test]
fn a_dead_holder_is_succeeded_and_writes_nothing_more() {
    for place in Place::on_both() {
        place.next_model();
        let dead = place.take_lease(Duration::from_secs(2));
        assert!(place.json("update")["held_by"].is_object());
        sleep(Duration::from_millis(2100));
        assert_eq!(place.json("update")["activated"], true);
        let rows = [EmbeddingRow {
            id: Uuid::from_u128(1),
            fingerprint: 0,
            vector: &[0.6, 0.8],
        }];
        let ghost = place.store.under(dead);
        let written = ghost.write_embeddings(VectorTable::Users, 1, &rows);
        let written = place.runtime.block_on(written);
        assert!(matches!(written, Err(StoreError::LeaseLost)), "{written:?}");
        assert_eq!(place.vectors(), [whole(1)]);
    }
}

/// An update that was suspended while another process took over stops, and its version is
/// unchanged.
#[test]
fn a_stolen_lease_stops_an_update() {
    let place = Place::on_postgres();
    place.next_model();
    let child = place
        .command("update --batch-size 1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = "SELECT count(*) > 5 FROM user_embeddings";
    while sql(&place.url, begun) != "t" {
        sleep(Duration::from_millis(5));
    }
    let steal = "UPDATE twotower.publisher SET fence = fence + 1, expires_at = 'infinity'";
    sql(&place.url, steal);
    let written = place.vectors();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{log}");
    assert!(log.contains("another process has taken over"), "{log}");
    assert_eq!(
        place.vectors(),
        written,
        "nothing is written after the theft"
    );
    assert_eq!(place.active(), None);
}

/// A process on a suspended machine: another one takes over, and nothing is written after it wakes.
#[test]
fn a_paused_update_is_succeeded_and_stops_when_it_wakes() {
    let place = Place::on_postgres();
    place.lease_of_one_second();
    place.next_model();
    let child = place
        .command("update --batch-size 1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let signal = |name: &str| {
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    };
    let begun = "SELECT count(*) > 5 FROM video_embeddings";
    while sql(&place.url, begun) != "t" {
        sleep(Duration::from_millis(5));
    }
    signal("-STOP");
    assert_eq!(place.active(), None);
    while !place.json("update")["held_by"].is_null() {
        sleep(Duration::from_millis(200));
    }
    assert_eq!(place.history(), [(1, None)]);
    let fingerprints =
        "SELECT count(*) FROM user_embeddings WHERE updated_at > now() - interval '1 hour'";
    assert_eq!(sql(&place.url, fingerprints), "300");
    sql(&place.url, "DELETE FROM user_embeddings");
    signal("-CONT");
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{log}");
    assert!(log.contains("another process has taken over"), "{log}");
    assert_eq!(sql(&place.url, "SELECT count(*) FROM user_embeddings"), "0");
}

/// A write may take longer than the lease, which heartbeats renew meanwhile.
#[test]
fn a_publisher_at_work_stays_the_publisher() {
    let place = Place::on_postgres();
    place.lease_of_one_second();
    place.next_model();
    let lock = "BEGIN; LOCK TABLE user_embeddings IN SHARE MODE; SELECT pg_sleep(4); COMMIT";
    let url = place.url.clone();
    let locking = std::thread::spawn(move || sql(&url, lock));
    let locked = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'user_embeddings'::regclass AND mode = 'ShareLock' AND granted";
    while sql(&place.url, locked) != "t" {
        sleep(Duration::from_millis(5));
    }
    let child = place
        .command("update")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(2200));
    let renewed = "SELECT fence > 0 AND expires_at > now() FROM twotower.publisher";
    assert_eq!(sql(&place.url, renewed), "t");
    assert!(place.json("update")["held_by"].is_object());
    locking.join().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(place.vectors(), [whole(1)]);
}
