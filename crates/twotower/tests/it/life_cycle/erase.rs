//! `twotower erase`: what is deleted, what the proof covers, and that an erased user stays erased.

use super::place::Place;
use crate::serve::fixture::{user, video};
use crate::support::sql;
use serde_json::{Value, json};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use twotower::import::id::from_integer;
use twotower_core::time::DAY_US;
use twotower_store::{InteractionKind, InteractionRow, VectorTable};
use uuid::Uuid;

const ERASED: u128 = 150;

fn erase(n: u128) -> String {
    format!("erase --user {}", user(n))
}

fn like(place: &Place, rows: impl Iterator<Item = (u128, u128)>) {
    let rows: Vec<_> = rows
        .map(|(who, n)| InteractionRow {
            user: user(who),
            video: video(1 + n % 40),
            at_us: 1_700_000_100_000_000 + (n * 1_000_000) as i64,
        })
        .collect();
    let written = place.store.write_interactions(InteractionKind::Like, &rows);
    place.runtime.block_on(written).unwrap();
}

fn weights(place: &Place, version: &Value) -> Vec<u8> {
    let folder = place.folder.path().join("models").join(version.to_string());
    std::fs::read(folder.join("weights.safetensors")).unwrap()
}

fn erasures_seen(place: &Place, version: &Value) -> Value {
    let folder = place.folder.path().join("models").join(version.to_string());
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["trained_on"]["erasures_seen"].clone()
}

/// Byte-identical, with both stores and whatever the order of ids and times.
#[test]
fn heavy_a_model_is_the_same_as_if_they_had_never_been_there() {
    let train = "train --epochs 1 --embedding-dim 8 --negatives 8 --batch-size 64";
    let others = || (0..60).flat_map(|who| (0..6).map(move |n| (who, who * 7 + n * 5)));
    let never = Place::on_sqlite();
    like(&never, others());
    let expected = never.json(train);
    let expected = weights(&never, &expected["train"]["version"]);
    for place in Place::on_both() {
        // One user who is first by id and last by time, and one in between.
        let erased = [Uuid::from_u128(1), Uuid::from_u128(user(30).as_u128() << 1)];
        like(&place, others());
        let mut likes: Vec<_> = (0..9)
            .flat_map(|n| erased.map(|user| (user, 3 + n, 1_900_000_000_000_000)))
            .collect();
        likes.push((erased[1], 20, 1_600_000_000_000_000));
        let likes = likes.into_iter().map(|(user, n, at_us)| InteractionRow {
            user,
            video: video(n),
            at_us,
        });
        let likes: Vec<_> = likes.collect();
        let written = place
            .store
            .write_interactions(InteractionKind::Like, &likes);
        place.runtime.block_on(written).unwrap();
        let with = place.json(train);
        assert_ne!(weights(&place, &with["train"]["version"]), expected);
        for user in erased {
            place.json(&format!("erase --user {user}"));
        }
        let without = place.json(train);
        let version = &without["train"]["version"];
        assert_eq!(weights(&place, version), expected);
        assert_eq!(erasures_seen(&place, version), 2);
        // A model derived from an older one has the age of that one in this respect.
        let later: Vec<_> = (0..300)
            .map(|who| InteractionRow {
                user: user(who),
                video: video(1 + (who + 3) % 40),
                at_us: 1_950_000_000_000_000 + who as i64 * 1_000_000,
            })
            .collect();
        let written = place
            .store
            .write_interactions(InteractionKind::Like, &later);
        place.runtime.block_on(written).unwrap();
        let line = format!("train --from models/{}", with["train"]["version"]);
        let tuned = place.json(&line);
        assert_eq!(erasures_seen(&place, &tuned["train"]["version"]), 0);
    }
}

#[test]
fn a_user_goes_and_versions_trained_before_are_named() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        let first = place.json(&erase(ERASED));
        assert_eq!(
            (
                &first["first_time"],
                &first["likes"],
                &first["user_vectors"]
            ),
            (&json!(true), &json!(1), &json!(1))
        );
        assert_eq!(first["models"][0]["version"], 1);
        assert_eq!(first["models"][0]["state"], "active");
        let month_us = 30 * DAY_US;
        let by = first["erased_at_us"].as_i64().unwrap() + month_us;
        assert_eq!(first["models"][0]["retire_by_us"], by);
        assert_eq!(place.json("models list")[0]["retire_by_us"], by);
        assert_eq!(place.json("models show 1")["retire_by_us"], by);
        assert_eq!(place.vectors(), [(1, 40, 299)]);
        let again = place.json(&erase(ERASED));
        assert_eq!(
            (&again["first_time"], &again["erased_at_us"]),
            (&json!(false), &first["erased_at_us"])
        );
        // The next update expects one vector less, and so does its check of the next version.
        assert_eq!(place.json("update")["users"]["unchanged"], 299);
        place.next_model();
        assert_eq!(place.json("update")["users"]["new"], 299);
        // The user's id is not repeated, even on failure.
        let output = place.run(&erase(ERASED));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains(&user(ERASED).to_string()), "{said}");
    }
}

#[test]
fn absence_is_proved_or_refuted() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        let command = format!("{} --verify", erase(ERASED));
        let proof = place.json(&command);
        assert_eq!(proof["search"]["rows"]["found"], json!([]));
        assert_eq!(proof["search"]["files"]["found"], json!([]));
        assert!(proof["search"]["files"]["files"].as_u64().unwrap() >= 7);
        let columns = proof["search"]["rows"]["searched"].to_string();
        assert!(columns.contains("user_embeddings.user_id"), "{columns}");

        let logs = place.folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let line = format!(
            "user={}\n",
            user(ERASED).simple().to_string().to_uppercase()
        );
        std::fs::write(logs.join("app.log"), line).unwrap();
        std::fs::write(logs.join("old.log.gz"), b"\x1f\x8b\x08").unwrap();
        let output = place.run(&format!("{command} --also logs"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("FOUND as digits: logs/app.log"), "{said}");
        assert!(said.contains("NOT searched: logs/old.log.gz"), "{said}");
        // A table that does not exist is reported as a mistake instead of counting as a proof.
        let log = place.refused(&format!("{command} --also nowhere"), 1);
        assert!(log.contains("nowhere"), "{log}");
    }
}

/// If ids of users and videos are the same numbers.
#[test]
fn what_holds_ids_of_videos_is_passed_over_for_an_id_that_a_video_has() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        let both = video(5);
        let like = InteractionRow {
            user: both,
            video: both,
            at_us: 1_700_000_000_000_000,
        };
        let likes = [like];
        let written = place
            .store
            .write_interactions(InteractionKind::Like, &likes);
        place.runtime.block_on(written).unwrap();
        place.json("export --to exports --user-ids");
        let vocabulary = json!({ "videos": [both], "tags": ["calm"] });
        let model = place.folder.path().join("models/9");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("preprocessing.json"), vocabulary.to_string()).unwrap();
        let command = format!("erase --user {both} --verify");
        let proof = place.json(&command);
        let [rows, files] = ["rows", "files"].map(|part| &proof["search"][part]);
        assert_eq!((&rows["found"], &files["found"]), (&json!([]), &json!([])));
        for passed in ["videos.id", "video_embeddings.video_id"] {
            assert!(rows["passed_over"].to_string().contains(passed), "{rows}");
        }
        let passed = files["passed_over"].to_string();
        assert!(passed.contains("models/9/preprocessing.json"), "{passed}");

        // An earlier export is searched in its column of users, not in that of videos.
        let output = place.run(&format!("{command} --also exports"));
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.matches("FOUND").count(), 1, "{said}");
        for words in [
            "a video has the same id, and what holds ids of videos was passed over: ",
            "FOUND as bytes: exports/likes/likes-00000.parquet",
            "look whose it is in each of them",
        ] {
            assert!(said.contains(words), "{said}");
        }
        std::fs::remove_dir_all(place.folder.path().join("exports/likes")).unwrap();
        place.json(&format!("{command} --also exports"));
        // The database's folder under another path than in its address, which is absolute.
        if place.url.starts_with("sqlite:") {
            place.json(&format!("{command} --also ."));
        }
        let vocabulary = json!({ "videos": [both], "tags": [both] });
        std::fs::write(model.join("preprocessing.json"), vocabulary.to_string()).unwrap();
        let output = place.run(&command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains("FOUND as text: models/9/preprocessing.json"),
            "{said}"
        );
    }
}

/// Ids that were numbers are encoded in an export, where a search of raw bytes does not find them.
#[test]
fn exports_are_read_and_other_packed_files_named() {
    let place = Place::on_sqlite();
    let likes: Vec<_> = (0..400)
        .map(|n: i64| InteractionRow {
            user: from_integer(n).unwrap(),
            video: video(1 + n as u128 % 40),
            at_us: 1_700_000_000_000_000 + n,
        })
        .collect();
    let written = place
        .store
        .write_interactions(InteractionKind::Like, &likes);
    place.runtime.block_on(written).unwrap();
    place.json("export --to named --user-ids");
    place.json("export --to unnamed");
    let file = place.folder.path().join("named/likes/likes-00000.parquet");
    let bytes = std::fs::read(&file).unwrap();
    let id = from_integer(123).unwrap();
    assert!(
        bytes.windows(16).all(|window| window != id.as_bytes()),
        "a search for bytes would do"
    );
    let command = "erase --user 123 --verify --also";
    let output = place.run(&format!("{command} named"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FOUND as bytes: named/likes/likes-00000.parquet")
            && said.matches("FOUND").count() == 1,
        "{said}"
    );
    // Pseudonym 123 is somebody else.
    let proof = place.json(&format!("{command} unnamed"));
    assert_eq!(proof["search"]["files"]["found"], json!([]));
    assert_eq!(proof["search"]["files"]["not_searched"], json!([]));

    std::fs::write(&file, &bytes[..bytes.len() - 4]).unwrap();
    let dump = place.folder.path().join("named/db.dump");
    std::fs::write(dump, b"PGDMP\x01\x0e\x00\x04").unwrap();
    let output = place.run(&format!("{command} named"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for words in [
        "NOT searched: named/db.dump: is a dump in a format of pg_dump's own",
        "NOT searched: named/likes/likes-00000.parquet: is a Parquet file that cannot be read",
        "found nowhere that was searched; 2 named above could not be",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

/// Files of other programs hold ids as they were before the import.
#[test]
fn the_column_of_users_is_read_as_import_reads_it() {
    use parquet::data_type::Int64Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    let place = Place::on_sqlite();
    let path = place.folder.path().join("theirs.parquet");
    let schema = "message likes { required int64 user_id; required int64 price; }";
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let properties = WriterProperties::builder().build().into();
    let mut writer = SerializedFileWriter::new(file, schema.into(), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in [[7, 8, 9], [70, 80, 90]] {
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<Int64Type>();
        typed.write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    for (user, code, found) in [(8, 1, true), (80, 0, false)] {
        let output = place.run(&format!(
            "erase --user {user} --verify --also theirs.parquet"
        ));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(
            said.contains("FOUND as id: theirs.parquet"),
            found,
            "{said}"
        );
    }
}

/// An id in an application's own table is found, whatever its type.
#[test]
fn other_tables_are_searched_too() {
    let place = Place::on_postgres();
    sql(
        &place.url,
        &format!(
            "CREATE TABLE orders (note jsonb); INSERT INTO orders VALUES ('{{\"by\": \"{}\"}}')",
            user(ERASED)
        ),
    );
    let output = place.run(&format!("{} --verify", erase(ERASED)));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FOUND in 1 rows: public.orders.note"),
        "{said}"
    );
}

#[test]
fn half_an_erasure_is_none() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        let source = "[source]\nlikes = \"SELECT user_id, video_id, created_at FROM likes WHERE true\"\n[update]\ngate = false\n";
        place.configure(source);
        let log = place.refused(&erase(ERASED), 2);
        assert!(log.contains("nothing was erased"), "{log}");
        assert_eq!(place.vectors(), [(1, 40, 300)]);
        place.configure(&format!(
            "{source}[erase]\nstatements = [\"DELETE FROM likes WHERE user_id = $1\", \"DELETE FROM nothing WHERE id = $1\"]"
        ));
        let log = place.refused(&erase(ERASED), 2);
        assert!(log.contains("[erase] statements: statement 2 "), "{log}");
        assert_eq!(place.vectors(), [(1, 40, 300)]);
        place.configure(&format!(
            "{source}[erase]\nstatements = [\"DELETE FROM likes WHERE user_id = $1\"]"
        ));
        let erased = place.json(&erase(ERASED));
        assert_eq!(
            (&erased["statements"], &erased["likes"]),
            (&json!([1]), &json!(0))
        );
        assert_eq!(place.vectors(), [(1, 40, 299)]);
    }
}

/// Erases during an update that has read the likes before and writes vectors: a user already
/// written, and one about to be. The update finds them gone and succeeds.
#[test]
fn an_update_under_way_brings_nobody_back() {
    for place in Place::on_both() {
        place.next_model();
        let child = place
            .command("update --batch-size 1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let written = || {
            let count = place.store.count_vectors(VectorTable::Users);
            place.runtime.block_on(count).unwrap()
        };
        while written().is_empty() {
            sleep(Duration::from_millis(2));
        }
        place.json(&erase(0));
        place.json(&erase(299));
        let output = child.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        assert_eq!(place.vectors(), [(1, 40, 298)]);
        let stored = place.store.read_fingerprints(VectorTable::Users, 1);
        let stored = place.runtime.block_on(stored).unwrap();
        assert!(
            stored
                .iter()
                .all(|(id, _)| ![user(0), user(299)].contains(id))
        );
        // The model that it has loaded was trained before the erasure.
        assert_eq!(place.active(), Some(1));
    }
}
