//! A backup restored into a fresh database gives the same recommendations.

use crate::life_cycle::place::{Place, USERS, whole};
use crate::serve::fixture::{Running, config, model, save_model, token, user};
use crate::support::{Workplace, sql};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use twotower_store::{ConnectOptions, ErasePlan, Store, StoreKind, VectorTable};

/// Two versions; the second is active.
fn filled(place: &Place) {
    place.like_more();
    for _ in 0..2 {
        place.next_model();
        place.json("update");
    }
    assert_eq!(place.active(), Some(2));
}

/// The same likes and videos in a new database, without our own data.
fn fresh(kind: StoreKind) -> Place {
    let place = match kind {
        StoreKind::Postgres => Place::on_postgres(),
        StoreKind::Sqlite => Place::on_sqlite(),
    };
    place.like_more();
    place
}

/// Makes a backup; returns its folder.
fn back_up(place: &Place) -> PathBuf {
    let report = place.json("backup");
    place.folder.path().join(report["folder"].as_str().unwrap())
}

fn restore(place: &Place, backup: &Path) -> Value {
    place.json(&format!("restore {}", backup.display()))
}

fn lists(place: &Place) -> Vec<Vec<String>> {
    let store = Store::connect(&place.url, ConnectOptions::default());
    let store = place.runtime.block_on(store).unwrap();
    let running = Running::start(store, config(place.models()));
    (0..20)
        .map(|n| {
            let (list, answer) = running.client.recommended(&token(user(n)), "{}");
            assert_eq!(answer["source"], "two_tower");
            list
        })
        .collect()
}

/// Bits of all vectors of a version, by id.
fn vectors(place: &Place, version: i64) -> Vec<(uuid::Uuid, Vec<u32>)> {
    let read = |table| {
        let read = place.store.read_embeddings(table, version, 8);
        let (ids, vectors) = place.runtime.block_on(read).unwrap();
        let bits = |row| vectors.row(row).iter().map(|x| x.to_bits()).collect();
        ids.into_iter()
            .enumerate()
            .map(|(row, id)| (id, bits(row)))
            .collect::<Vec<_>>()
    };
    [VectorTable::Videos, VectorTable::Users]
        .into_iter()
        .flat_map(read)
        .collect()
}

#[test]
fn heavy_a_fresh_database_answers_as_the_lost_one_did() {
    for place in Place::on_both() {
        filled(&place);
        let backup = back_up(&place);
        let expected = (lists(&place), vectors(&place, 2), place.history());
        for kind in [StoreKind::Postgres, StoreKind::Sqlite] {
            let target = fresh(kind);
            let restored = restore(&target, &backup);
            assert_eq!(restored["active_version"], 2, "{restored}");
            assert_eq!(target.vectors(), [whole(1), whole(2)]);
            assert!(vectors(&target, 2) == expected.1, "vectors differ");
            assert_eq!(target.history(), expected.2);
            assert_eq!(lists(&target), expected.0);

            let update = target.json("update");
            assert_eq!(update["version"], 2);
            for what in ["videos", "users"] {
                let changes = &update[what];
                assert_eq!(
                    (&changes["new"], &changes["changed"], &changes["removed"]),
                    (&json!(0), &json!(0), &json!(0)),
                    "{update}"
                );
            }
            // A rollback has the same target as before, and its model exists.
            assert_eq!(target.json("rollback")["version"], 1);
            assert_eq!(target.next_model(), 3, "numbers go on");
        }
    }
}

#[test]
fn heavy_an_erased_user_stays_out() {
    for place in Place::on_both() {
        filled(&place);
        let gone = user(3);
        let before = back_up(&place);
        place.json(&format!("erase --user {gone}"));
        sleep(Duration::from_millis(1100));
        let after = back_up(&place);
        // The earlier backup still has their vector; the database that erased them does not restore
        // it.
        let restored = restore(&place, &before);
        assert_eq!(restored["erased_left_out"], 2);
        assert_eq!(
            place.vectors(),
            [1, 2].map(|version| (version, 40, USERS as u64 - 1))
        );

        // A fresh database learns of the erasure from the backup, and ignores likes from elsewhere.
        let target = fresh(place.store.kind());
        restore(&target, &after);
        let asked = [gone, user(4)];
        let erased = target.store.erased_users(&asked);
        assert_eq!(target.runtime.block_on(erased).unwrap(), [gone]);
        let update = target.json("update --full");
        assert_eq!(update["version"], 2);
        assert_eq!(target.vectors()[1], (2, 40, USERS as u64 - 1));
        assert!(vectors(&target, 2).iter().all(|(id, _)| *id != gone));
    }
}

/// After a disaster both machine and database are new: this is when a dry run is needed most.
#[test]
fn a_dry_run_tells_what_an_empty_database_would_get() {
    let place = Place::on_sqlite();
    place.next_model();
    place.json("update");
    let backup = back_up(&place);
    let line = format!("restore {}", backup.display());
    let empty = crate::support::new_postgres();
    let file = place.folder.path().join("new.db");
    for url in [empty, format!("sqlite://{}", file.display())] {
        let dry = place.json(&format!("{line} --dry-run --db-url {url}"));
        assert_eq!(
            (&dry["dry_run"], &dry["active_version"]),
            (&json!(true), &json!(1))
        );
        let migrations = dry["migrations"].as_array().unwrap().len();
        assert!(migrations > 0, "{dry}");
        assert!(!file.exists());
        let done = place.json(&format!("{line} --db-url {url}"));
        for table in ["models", "user_embeddings", "video_embeddings"] {
            assert_eq!(done["rows"][table], dry["rows"][table], "{table}");
        }
        assert_eq!(done["migrations"].as_array().unwrap().len(), migrations);
        let again = place.json(&format!("{line} --dry-run --db-url {url}"));
        assert_eq!(again["migrations"], json!([]));
    }
}

/// An older schema may hold data newer than the backup, and must not be taken for empty.
#[test]
fn a_dry_run_looks_at_no_schema_that_lacks_migrations() {
    let place = Place::on_postgres();
    place.next_model();
    place.json("update");
    let line = format!("restore {}", back_up(&place).display());
    let refused = |lacking: &str| {
        let said = place.refused(&format!("{line} --dry-run"), 1);
        for words in [lacking, "`twotower migrate` first", "without --dry-run"] {
            assert!(said.contains(words), "{said}");
        }
    };
    let last = sql(
        &place.url,
        "DELETE FROM supabase_migrations.schema_migrations
         WHERE version = (SELECT max(version) FROM supabase_migrations.schema_migrations) RETURNING version",
    );
    refused(&last);
    // Missing columns of ours do not make it an empty database.
    let rename = |from, to| {
        let change = format!("ALTER TABLE twotower.models RENAME COLUMN {from} TO {to}");
        sql(&place.url, &change);
    };
    rename("pruned_at", "pruned");
    refused(&last);
    rename("pruned", "pruned_at");
    assert_eq!(place.json(&line)["migrations"], json!([last]));
    // Neither does a copy without the record of its migrations.
    sql(
        &place.url,
        "DELETE FROM supabase_migrations.schema_migrations",
    );
    refused(&last);
}

#[test]
fn what_is_newer_asks_for_a_word() {
    let place = Place::on_postgres();
    filled(&place);
    let backup = back_up(&place);
    place.next_model();
    place.json("update");
    let line = format!("restore {}", backup.display());
    let said = place.refused(&line, 1);
    assert!(
        said.contains("versions 3 are not in the backup") && said.contains("--replace"),
        "{said}"
    );
    let dry = place.json(&format!("{line} --replace --dry-run"));
    assert_eq!((&dry["dry_run"], place.active()), (&json!(true), Some(3)));
    place.json(&format!("{line} --replace"));
    assert_eq!(place.active(), Some(2));
    // A version that was rolled back is not activated again by itself.
    assert_eq!(place.json("update")["version"], 2);
    assert_eq!(place.history().last(), Some(&(2, Some(3))));
}

#[test]
fn only_so_many_are_kept_and_they_are_private() {
    let place = Place::on_sqlite();
    place.configure("[update]\ngate = false\n[backup]\nkeep = 2\nfolder = \"copies\"");
    place.next_model();
    place.json("update");
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(back_up(&place));
        sleep(Duration::from_millis(1100));
    }
    let root = place.folder.path().join("copies");
    let mut left: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    left.sort();
    assert_eq!(left, made[1..]);
    #[cfg(unix)]
    for (path, expected) in [
        (root.clone(), 0o700),
        (left[0].clone(), 0o700),
        (left[0].join("tombstone_salt.jsonl"), 0o600),
        (left[0].join("user_embeddings.jsonl"), 0o600),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{}", path.display());
    }
    // A folder of backups means its newest; both are verified.
    let dry = place.json("restore copies --dry-run");
    assert!(made[2].ends_with(Path::new(dry["folder"].as_str().unwrap())));
    let line = format!(
        "backup --verify {} {}",
        left[0].display(),
        left[1].display()
    );
    assert_eq!(place.json(&line)["verified"].as_array().unwrap().len(), 2);
    std::fs::write(left[0].join("models.jsonl"), "").unwrap();
    let said = place.refused(&line, 1);
    assert!(
        said.contains("models.jsonl") && said.contains("damaged"),
        "{said}"
    );
    let said = place.refused(&format!("restore {}", left[0].display()), 1);
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn without_the_active_models_folder_there_is_no_backup() {
    let place = Place::on_sqlite();
    place.next_model();
    place.json("update");
    std::fs::rename(place.models(), place.folder.path().join("elsewhere")).unwrap();
    let said = place.refused("backup", 1);
    assert!(said.contains("--model-path"), "{said}");
    let root = place.folder.path().join("backups");
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
    place.json("backup --model-path elsewhere");
    place.configure("[backup]\nmodels = false");
    sleep(Duration::from_millis(1100));
    assert_eq!(place.json("backup")["models"], json!([]));
}

#[test]
fn restoring_waits_for_nobody_who_publishes() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        let backup = back_up(&place);
        place.take_lease(Duration::from_mins(10));
        let said = place.refused(&format!("restore {}", backup.display()), 4);
        assert!(said.contains("elsewhere"), "{said}");
    }
}

/// Keys and likes are not included: these belong to the application.
#[test]
fn a_backup_holds_what_is_ours() {
    let place = Place::on_postgres();
    filled(&place);
    let key = sql(
        &place.url,
        "SELECT encode(key, 'hex') FROM twotower.change_key",
    );
    let backup = back_up(&place);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&backup).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        if path.is_file() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains(&key), "{}", path.display());
        }
    }
    names.sort();
    assert_eq!(
        names,
        [
            "backup.json",
            "experiments.jsonl",
            "job_runs.jsonl",
            "model_activations.jsonl",
            "models",
            "models.jsonl",
            "recommendation_blocks.jsonl",
            "tombstone_salt.jsonl",
            "tombstones.jsonl",
            "user_embeddings.jsonl",
            "video_embeddings.jsonl"
        ]
    );
}

/// For the versions that readers may see or roll back to, because SQL readers do not wait for the
/// next update.
#[test]
fn user_towers_are_written_from_the_models() {
    let place = Place::on_postgres();
    filled(&place);
    let towers = "SELECT md5(string_agg(version || layer || unit || weights::text, ',' ORDER BY version, layer, unit))
                  FROM twotower.user_towers";
    let expected = sql(&place.url, towers);
    let target = fresh(StoreKind::Postgres);
    let restored = restore(&target, &back_up(&place));
    assert_eq!(restored["without_user_tower"], json!([]));
    assert_eq!(sql(&target.url, towers), expected);

    // If a folder is missing or holds another model, the report suggests an update, which writes
    // the tower once the folder is present.
    place.configure("[backup]\nmodels = false");
    sleep(Duration::from_millis(1100));
    let backup = back_up(&place);
    let target = fresh(StoreKind::Postgres);
    save_model(&target.models(), &model(99), 2);
    let dry = target.json(&format!("restore {} --dry-run", backup.display()));
    assert_eq!(dry["without_user_tower"], json!([]));
    let output = target.run(&format!("restore {}", backup.display()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for version in [1, 2] {
        let line = format!(
            "no folder of version {version} to write its user tower from: `twotower update`"
        );
        assert!(said.contains(&line), "{said}");
    }
    assert_eq!(
        restore(&target, &backup)["without_user_tower"],
        json!([1, 2])
    );
    assert_eq!(
        sql(&target.url, "SELECT count(*) FROM twotower.user_towers"),
        "0"
    );
    for version in ["1", "2"] {
        let _ = std::fs::remove_dir_all(target.models().join(version));
    }
    save_model(&target.models(), &model(2), 2);
    target.json("update");
    let versions = "SELECT string_agg(DISTINCT version::text, ',') FROM twotower.user_towers";
    assert_eq!(sql(&target.url, versions), "2");
}

/// Migrations are part of a restore, so an empty database suffices.
#[test]
fn an_empty_database_gets_its_schema() {
    let place = Place::on_sqlite();
    filled(&place);
    let plan = ErasePlan {
        likes: true,
        skips: true,
        ..ErasePlan::default()
    };
    place
        .runtime
        .block_on(place.store.erase_user(user(3), &plan))
        .unwrap();
    let backup = back_up(&place);
    let empty = Workplace::on_postgres(crate::support::new_postgres());
    let restored = empty.json(&format!("restore {}", backup.display()));
    assert_eq!(
        (&restored["active_version"], &restored["rows"]["tombstones"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        sql(&empty.url, "SELECT version FROM twotower.active_model"),
        "2"
    );
}
