//! Updates on databases that go away, refuse writes, or store something else than was written.

use super::place::{Place, whole};
use crate::serve::fixture::{model, save_model};
use crate::support::{Workplace, fresh_postgres, new_postgres, sql};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use twotower_core::feature::Video;
use twotower_store::{ConnectOptions, Store};
use uuid::Uuid;

#[test]
fn lost_connections_are_made_again() {
    let place = Place::on_postgres();
    place.next_model();
    let child = place
        .command("update --batch-size 1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Three times in the middle of a write.
    let kill = "DO $$ BEGIN
        FOR moment IN 1..20000 LOOP
            PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND state <> 'idle' AND query LIKE 'INSERT INTO public.%embeddings%';
            EXIT WHEN FOUND;
            PERFORM pg_stat_clear_snapshot(), pg_sleep(0.0002);
        END LOOP;
    END $$";
    for _ in 0..3 {
        sql(&place.url, kill);
    }
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("try 1 of 5"), "{log}");
    assert_eq!(place.vectors(), [whole(1)]);
    assert_eq!(place.history(), [(1, None)]);
}

#[test]
fn a_database_that_stays_away_is_given_up() {
    let mut place = Workplace::on_sqlite();
    place.url = "postgresql://me@127.0.0.1:1/db".into();
    place.configure("[update]\nattempts = 2");
    let log = place.refused("update", 4);
    assert!(
        log.contains("try 1 of 2") && log.contains("127.0.0.1:1"),
        "{log}"
    );
}

/// A training of hours is not thrown away because the database is read-only for a moment.
#[test]
fn a_training_waits_for_the_number_of_its_model() {
    let place = Place::on_postgres();
    place.like_more();
    place.configure("[hyperparameters]\nepochs = 1\nembedding_dim = 8");
    let (_, name) = place.url.rsplit_once('/').unwrap();
    let database = |what: &str| sql(&fresh_postgres(), &format!("ALTER DATABASE {name} {what}"));
    database("SET default_transaction_read_only = on");
    let mut child = place
        .command("train")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let waits = lines.find(|line| line.contains("number the model: "));
    database("RESET default_transaction_read_only");
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{waits:?} {rest:?}");
    assert!(waits.unwrap().contains("try 1 of"));
    assert_eq!(
        twotower_store::model_files::versions(&place.models()).unwrap(),
        [1]
    );
}

/// A role that may read everything and write nothing suffices.
#[test]
fn a_dry_run_needs_no_right_to_write() {
    let place = Place::on_postgres();
    place.next_model();
    let role = format!("twotower_reader_{}", std::process::id());
    sql(
        &place.url,
        &format!(
            "CREATE ROLE {role} LOGIN BYPASSRLS;
             ALTER ROLE {role} SET default_transaction_read_only = on;
             GRANT USAGE ON SCHEMA public, twotower, supabase_migrations TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA public, twotower, supabase_migrations TO {role}"
        ),
    );
    let reader = Workplace {
        url: place.url.replace("postgres@", &format!("{role}@")),
        folder: tempfile::tempdir().unwrap(),
    };
    let models = place.folder.path().join("models");
    let dry = reader.json(&format!(
        "update --dry-run --model-path {}",
        models.display()
    ));
    assert_eq!(
        (&dry["dry_run"], &dry["videos"]["new"], &dry["users"]["new"]),
        (&true.into(), &40.into(), &300.into())
    );
    // The error of a server that is a replica during a failover.
    let said = reader.refused(&format!("update --model-path {}", models.display()), 4);
    assert!(said.contains("takes no writes"), "{said}");
    let registered = place.runtime.block_on(place.store.models()).unwrap();
    assert!(registered.is_empty() && place.vectors().is_empty());
    // Not even the lease was taken.
    assert_eq!(sql(&place.url, "SELECT fence FROM twotower.publisher"), "0");
}

#[test]
fn a_dry_run_leaves_an_old_file_as_it_is() {
    let place = Workplace::on_sqlite();
    std::fs::write(place.folder.path().join("test.db"), "").unwrap();
    let log = place.refused("update --dry-run", 1);
    assert!(log.contains("run `twotower migrate`"), "{log}");
}

/// The check reads what the database stored, not what was sent.
#[test]
fn vectors_that_are_missing_or_wrong_are_not_shown() {
    let place = Place::on_postgres();
    place.next_model();
    place.json("update");
    place.next_model();
    let meddle = |what: &str| {
        let function = format!(
            "CREATE OR REPLACE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} RETURN NEW; END $$;
             CREATE OR REPLACE TRIGGER meddle BEFORE INSERT ON video_embeddings FOR EACH ROW EXECUTE FUNCTION meddle()"
        );
        sql(&place.url, &function);
    };
    meddle("IF NEW.video_id = '0a000000-0000-4000-8000-000000000007' THEN RETURN NULL; END IF;");
    let log = place.refused("update", 1);
    assert!(
        log.contains("39 vectors of version 2 where there should be 40"),
        "{log}"
    );
    let state = "SELECT state FROM twotower.models WHERE version = 2";
    assert_eq!(
        (sql(&place.url, state), place.active()),
        ("loading".into(), Some(1))
    );
    meddle("");
    assert_eq!(
        place.json("update")["activated"],
        true,
        "the next run adds what is missing"
    );

    place.next_model();
    sql(
        &place.url,
        "ALTER TABLE video_embeddings DROP CONSTRAINT video_embeddings_norm_is_0_999_to_1_001",
    );
    meddle("NEW.embedding := array_fill(0.1, ARRAY[8])::vector;");
    let log = place.refused("update", 1);
    assert!(
        log.contains("40 of 40 vectors of version 3 in video_embeddings do not have norm 1"),
        "{log}"
    );
    let state = "SELECT state || ' ' || reason FROM twotower.models WHERE version = 3";
    assert!(sql(&place.url, state).starts_with("failed 40 of 40 vectors"));
    meddle("");
    let update = place.json("update");
    assert_eq!(
        update["version"], 2,
        "refused once, it is not tried unasked"
    );
    assert_eq!(
        place.json("update --model-path models/3 --full")["activated"],
        true
    );
    assert_eq!(place.active(), Some(3));
}

#[test]
fn heavy_an_index_is_built_before_the_switch() {
    let place = Workplace::on_postgres(new_postgres());
    place.configure("[update]\ngate = false");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::connect(&place.url, ConnectOptions::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let videos: Vec<_> = (1..=10_000)
            .map(|n| Video {
                id: Uuid::from_u128(n),
                title: format!("video {n}"),
                ..Video::default()
            })
            .collect();
        store.write_videos(&videos).await.unwrap();
    });
    let models = place.folder.path().join("models");
    save_model(&models, &model(1), 1);
    let output = place.run("update");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("10000 vectors of 8 dimensions, built with maintenance_work_mem 64MB"),
        "{log}"
    );
    let indexes = "SELECT string_agg(relname || ' ' || indisvalid, ', ') FROM pg_index JOIN pg_class ON oid = indexrelid
                   WHERE relname LIKE '%hnsw%'";
    assert_eq!(sql(&place.url, indexes), "video_embeddings_hnsw_1 true");
    save_model(&models, &model(2), 2);
    assert_eq!(place.json("update --no-index")["activated"], true);
    assert_eq!(sql(&place.url, indexes), "video_embeddings_hnsw_1 true");

    // After a kill during the build, the next run builds the index again.
    place.configure("[update]\ngate = false\nlease_seconds = 1");
    save_model(&models, &model(3), 3);
    let mut child = place
        .command("update")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let building = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX CONCURRENTLY%'";
    while sql(&place.url, building) != "t" {
        assert!(child.try_wait().unwrap().is_none(), "it is killed in time");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let active = "SELECT version FROM twotower.active_model";
    assert_eq!(sql(&place.url, active), "2");
    while !place.json("update")["held_by"].is_null() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(sql(&place.url, active), "3");
    let built =
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'video_embeddings_hnsw_3'::regclass";
    assert_eq!(sql(&place.url, built), "t");
}
