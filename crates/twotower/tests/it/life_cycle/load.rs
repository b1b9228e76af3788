//! `twotower load`: vectors from files, shown to readers in the same way as those of an update.

use super::place::{Place, USERS, whole};
use super::vectors::{Folder, Row};
use crate::serve::fixture::{VIDEOS, catalogue, model, user, video};
use crate::support::sql;
use serde_json::{Value, json};
use std::time::Duration;
use twotower_core::interaction::History;
use twotower_core::model::TwoTower;
use twotower_store::VectorTable;
use uuid::Uuid;

const DIM: usize = 8;

/// The vectors of all videos and users, as an update computes them.
fn vectors(version: i64) -> (Vec<Row>, Vec<Row>) {
    let model = model(version as u64);
    let catalogue = catalogue();
    let videos = model.embed_videos(&catalogue).unwrap();
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &videos,
    };
    let users = (0..USERS).map(|n| {
        let likes = [(n % VIDEOS) as u32];
        let history = History {
            likes: &likes,
            skips: &[],
        };
        (user(n), towers.embed_user(history).unwrap())
    });
    let rows = catalogue.iter().enumerate();
    let rows = rows.map(|(row, video)| (video.id, videos.row(row).to_vec()));
    (rows.collect(), users.collect())
}

/// A folder with all of them: videos in two files, users in three row groups.
pub(crate) fn folder(place: &Place, version: i64, name: &str) -> Folder {
    let (videos, users) = vectors(version);
    let mut folder = empty(place, version, name);
    folder.add("videos", &videos[..15], 10);
    folder.add("videos", &videos[15..], 100);
    folder.add("users", &users, 110);
    folder
}

fn empty(place: &Place, version: i64, name: &str) -> Folder {
    let model = place.models().join(version.to_string());
    Folder::new(place.folder.path().join(name), &model, DIM)
}

fn stored(place: &Place, table: VectorTable, version: i64) -> (Vec<Uuid>, Vec<f32>) {
    let read = place.store.read_embeddings(table, version, DIM);
    let (ids, vectors) = place.runtime.block_on(read).unwrap();
    (ids, vectors.as_slice().to_vec())
}

fn changes(report: &Value, kind: &str) -> [u64; 4] {
    ["new", "changed", "removed", "unchanged"].map(|key| report[kind][key].as_u64().unwrap())
}

#[test]
fn vectors_of_files_are_those_of_an_update() {
    for place in Place::on_both() {
        let version = place.next_model();
        folder(&place, version, "vectors");
        let report = place.json("load --model models/1 --from vectors --connections 3");
        assert_eq!(
            (&report["activated"], &report["active_version"]),
            (&json!(true), &json!(1))
        );
        assert_eq!(changes(&report, "videos"), [40, 0, 0, 0]);
        assert_eq!(changes(&report, "users"), [300, 0, 0, 0]);
        assert_eq!((place.active(), place.vectors()), (Some(1), vec![whole(1)]));
        let loaded = [VectorTable::Videos, VectorTable::Users].map(|t| stored(&place, t, version));
        // Their input is unknown, so the next update recomputes them once.
        let update = place.json("update");
        assert_eq!(changes(&update, "users"), [0, 300, 0, 0]);
        let updated = [VectorTable::Videos, VectorTable::Users].map(|t| stored(&place, t, version));
        for (loaded, updated) in loaded.iter().zip(&updated) {
            assert_eq!(loaded.0, updated.0);
            let pairs = loaded.1.iter().zip(&updated.1);
            let far = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-6, "{far}");
        }
        assert_eq!(changes(&place.json("update"), "users"), [0, 0, 0, 300]);
        // For a version that readers see, it replaces vectors and deletes none.
        let again = place.json("load --model models/1 --from vectors");
        assert_eq!(changes(&again, "videos"), [0, 40, 0, 0]);
        let again = place.json("load --model models/1 --from vectors");
        assert_eq!(changes(&again, "users"), [0, 0, 0, 300]);
    }
}

#[test]
fn a_candidate_holds_what_its_last_load_brought_and_nothing_else() {
    for place in Place::on_both() {
        let version = place.next_model();
        let all = folder(&place, version, "all");
        place.json("load --model models/1 --from all --no-activate");
        assert_eq!((place.active(), place.vectors()), (None, vec![whole(1)]));
        drop(all);

        let (mut videos, mut users) = vectors(version);
        // Missing in the files; a changed vector; a vector of no video of the catalogue.
        videos.remove(3);
        videos[7].1 = videos[8].1.clone();
        videos.push((video(VIDEOS + 5), videos[0].1.clone()));
        users.truncate(200);
        let mut fewer = empty(&place, version, "fewer");
        fewer.add("videos", &videos, 9);
        fewer.add("users", &users[..50], 50);
        fewer.add("users", &users[50..], 50);
        place.json(&format!("erase --user {}", user(20)));
        let report = place.json("load --model models/1 --from fewer --no-activate");
        assert_eq!(changes(&report, "videos"), [0, 1, 1, 38]);
        assert_eq!(changes(&report, "users"), [0, 0, 100, 199]);
        assert_eq!(
            (&report["unknown_videos"], &report["erased_users"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(place.vectors(), [(1, 39, 199)]);
        let (ids, _) = stored(&place, VectorTable::Users, version);
        assert!(!ids.contains(&user(20)));
        place.json("models promote 1");
        // The update adds the missing user.
        let update = place.json("update");
        assert_eq!(changes(&update, "videos")[0], 1);
        assert_eq!(changes(&update, "users")[0], 100);
    }
}

/// After an interruption between two transactions it resumes there.
#[test]
fn what_was_loaded_before_a_fault_is_not_loaded_again() {
    for place in Place::on_both() {
        let version = place.next_model();
        let (videos, _) = vectors(version);
        let mut bad = videos.clone();
        bad[30].1[2] = f32::NAN;
        let mut folder = empty(&place, version, "bad");
        folder.add("videos", &bad[..20], 20);
        folder.add("videos", &bad[20..], 20);
        let log = place.refused("load --model models/1 --from bad --connections 1", 1);
        assert!(
            log.contains("videos-00001.parquet: row 11 holds no vector of a model"),
            "{log}"
        );
        assert_eq!((place.active(), place.vectors()), (None, vec![(1, 20, 0)]));
        let mut folder = empty(&place, version, "good");
        folder.add("videos", &videos, 20);
        let report = place.json("load --model models/1 --from good");
        assert_eq!(changes(&report, "videos"), [20, 0, 0, 20]);
        assert_eq!(place.active(), Some(1));
    }
}

#[test]
fn other_vectors_are_refused_before_anything_is_written() {
    let place = Place::on_sqlite();
    let version = place.next_model();
    place.next_model();
    let mut good = folder(&place, version, "vectors");
    let refused = |words: &str, line: &str| {
        let log = place.refused(line, 1);
        assert!(log.contains(words), "{words}: {log}");
        assert!(place.vectors().is_empty(), "{words}");
    };
    let load = "load --model models/1 --from vectors";
    refused("no folder of a model", "load --model models --from vectors");
    refused(
        "holds vectors of model 1, and --model names model 2",
        "load --model models/2 --from vectors",
    );
    refused(
        "`twotower embed` writes last",
        "load --model models/1 --from models",
    );
    let manifest = good.manifest.clone();
    for (key, value, words) in [
        ("format", json!(2), "of format 2"),
        (
            "manifest_sha256",
            json!("00"),
            "holds vectors of another model 1",
        ),
        ("dim", json!(16), "of dimension 16"),
    ] {
        good.manifest[key] = value;
        good.finish();
        refused(words, load);
        good.manifest = manifest.clone();
    }
    good.manifest["videos"]["files"][0]["rows"] = json!(14);
    good.finish();
    refused("counts 40 videos, and 39 in its files", load);
    good.manifest["videos"]["rows"] = json!(39);
    good.finish();
    refused("has 15 rows, and vectors.json says 14", load);
    good.manifest = manifest.clone();
    good.manifest["users"]["files"][0]["name"] = json!("../users.parquet");
    good.finish();
    refused("is no name of a file", load);
    good.manifest = manifest;
    good.finish();
    let file = good.path.join("users-00000.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    refused("is not the file that was written", load);
}

type Spoil = fn(&mut Vec<Row>);

#[test]
fn rows_that_are_no_vectors_are_named() {
    let place = Place::on_sqlite();
    let version = place.next_model();
    let (videos, _) = vectors(version);
    let cases: [(&str, Spoil, &str); 5] = [
        ("long", |rows| rows[4].1[0] = 3.0, "row 5 holds no vector"),
        (
            "short",
            |rows| rows[4].1.truncate(7),
            "row 5: the vector has 7 numbers, and not 8",
        ),
        (
            "twice",
            |rows| rows[6].0 = rows[5].0,
            "row 7: the id comes twice",
        ),
        (
            "swapped",
            |rows| rows.swap(11, 12),
            "row 13: the id comes twice or is not in order",
        ),
        ("groups", |rows| rows.rotate_left(20), "are not in order"),
    ];
    for (name, spoil, words) in cases {
        let mut rows = videos.clone();
        spoil(&mut rows);
        let mut folder = empty(&place, version, name);
        folder.add("videos", &rows, 20);
        let log = place.refused(&format!("load --model models/1 --from {name}"), 1);
        assert!(log.contains(words), "{name}: {log}");
        assert_eq!(place.active(), None);
    }
}

#[test]
fn the_gate_and_other_publishers_are_asked() {
    let place = Place::on_postgres();
    let version = place.next_model();
    folder(&place, version, "vectors");
    let lease = place.take_lease(Duration::from_mins(1));
    let held = place.json("load --model models/1 --from vectors");
    assert_eq!(held["held_by"]["host"], "elsewhere");
    assert!(place.vectors().is_empty());
    let given_back = place.store.release_lease(lease);
    place.runtime.block_on(given_back).unwrap();
    // Random weights do not pass the gate.
    place.configure("");
    let log = place.refused("load --model models/1 --from vectors", 5);
    assert!(log.contains("version 1 was refused"), "{log}");
    assert_eq!((place.active(), place.vectors()), (None, vec![whole(1)]));
    let report = place.json("load --model models/1 --from vectors --force");
    assert_eq!(
        report["verdict"]["checks"].as_array().map(Vec::is_empty),
        Some(false)
    );
    assert_eq!(changes(&report, "users"), [0, 0, 0, 300]);
    let forced = "SELECT forced, reason FROM twotower.model_activations";
    assert_eq!(sql(&place.url, forced), "t|load");
    // Loading does not switch back to an older version.
    place.configure("[update]\ngate = false");
    place.next_model();
    place.json("update");
    let log = place.refused("load --model models/1 --from vectors", 1);
    assert!(log.contains("version 2 is served already"), "{log}");
}

/// A role under row-level security may not COPY into a table, so rows are inserted.
#[test]
fn the_role_of_updates_loads_too() {
    let place = Place::on_postgres();
    let version = place.next_model();
    folder(&place, version, "vectors");
    let role = format!("loader_{}", std::process::id());
    sql(
        &place.url,
        &format!("CREATE ROLE {role} LOGIN IN ROLE twotower_updater"),
    );
    let url = place.url.replace("postgres@", &format!("{role}@"));
    let output = place
        .command("load --model models/1 --from vectors")
        .env("DATABASE_URL", url)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    assert_eq!(place.vectors(), [whole(1)]);
}
