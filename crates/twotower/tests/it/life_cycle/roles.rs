//! Train, update and serve, each with its own role, which has none of the others' rights.

use super::place::Place;
use crate::serve::fixture::{Running, config, token, user, video};
use crate::support::sql;
use serde_json::{Value, json};
use std::time::Duration;
use twotower_store::{
    Block, BlockKind, ConnectOptions, EmbeddingRow, ErasePlan, EventKind, EventPolicy,
    IndexOutcome, IndexPlan, InteractionKind, LeaseHolder, ModelState, NewEvent, Store, StoreError,
    VectorTable,
};
use uuid::Uuid;

/// A login role with one component's role; dropped at the end.
struct Login {
    url: String,
    owner: String,
    name: String,
}

impl Login {
    fn new(place: &Place, component: &str) -> Self {
        let name = format!("login_{component}_{}", std::process::id());
        sql(
            &place.url,
            &format!("CREATE ROLE {name} LOGIN; GRANT {component} TO {name}"),
        );
        Self {
            url: place.url.replace("postgres@", &format!("{name}@")),
            owner: place.url.clone(),
            name,
        }
    }

    fn json(&self, place: &Place, line: &str) -> Value {
        let output = place
            .command(&format!("--json {line}"))
            .env("DATABASE_URL", &self.url)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "twotower {line}: {log}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn store(&self) -> Store {
        Store::connect(&self.url, ConnectOptions::default())
            .await
            .unwrap()
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        sql(
            &self.owner,
            &format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name),
        );
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    match result {
        Err(StoreError::Permission(_)) => {}
        other => panic!("{other:?}"),
    }
}

async fn writes_no_vectors(store: &Store) {
    let row = EmbeddingRow {
        id: Uuid::nil(),
        fingerprint: 0,
        vector: &[0.6, 0.8],
    };
    for table in [VectorTable::Videos, VectorTable::Users] {
        refused(store.write_embeddings(table, 1, &[row]).await);
    }
    let holder = LeaseHolder {
        host: "here".into(),
        pid: 1,
        since_us: 1,
    };
    refused(store.take_lease(&holder, Duration::from_mins(1)).await);
    refused(store.set_model_state(1, ModelState::Retired).await);
}

async fn records_nothing(store: &Store) {
    let event = NewEvent {
        event_id: Uuid::nil(),
        kind: EventKind::View,
        video: video(1),
        model_version: None,
        request_id: None,
        position: None,
        watch_fraction: Some(0.5),
        at_us: None,
    };
    refused(
        store
            .record_events(user(1), &[event], EventPolicy::default())
            .await,
    );
    refused(store.record(InteractionKind::Like, user(1), video(1)).await);
    let block = Block {
        kind: BlockKind::Tag,
        value: "x".into(),
    };
    refused(store.add_block(user(1), &block).await);
    refused(store.user_state(user(1), 10).await);
}

#[test]
fn heavy_each_component_does_its_work_and_no_others() {
    let place = Place::on_postgres();
    place.like_more();
    let trainer = Login::new(&place, "twotower_trainer");
    let updater = Login::new(&place, "twotower_updater");
    let server = Login::new(&place, "twotower_server");

    let trained = trainer.json(
        &place,
        "train --output-dir models --epochs 1 --embedding-dim 8 --threads 1",
    );
    assert_eq!(trained["train"]["version"], 1, "{trained}");
    trainer.json(&place, "evaluate --model-path models");
    let updated = updater.json(&place, "update --model-path models");
    assert_eq!(updated["activated"], true, "{updated}");

    let candidate = place.next_model();
    updater.json(
        &place,
        &format!("update --model-path models/{candidate} --no-activate"),
    );
    place.json(&format!("experiment start --challenger {candidate}"));
    let back = updater.json(&place, "models promote 2 --force");
    assert_eq!(back["ended_experiment"], 1, "{back}");
    updater.json(&place, "rollback");

    let running = {
        let store = place.runtime.block_on(server.store());
        Running::start(store, config(place.models()))
    };
    let (list, answer) = running.client.recommended(&token(user(1)), "{}");
    assert_eq!((&answer["source"], list.len()), (&json!("two_tower"), 10));
    let body =
        json!({"events": [{"event_id": Uuid::from_u128(1), "kind": "like", "video_id": list[0]}]});
    let authorization = format!("Bearer {}", token(user(1)));
    let headers = [
        ("authorization", &*authorization),
        ("content-type", "application/json"),
    ];
    for (accepted, duplicates) in [(1, 0), (0, 1)] {
        let answer = running
            .client
            .post("/functions/v1/events", &headers, &body.to_string());
        assert_eq!(
            answer.json(),
            json!({"accepted": accepted, "duplicates": duplicates})
        );
    }
    let (after, _) = running.client.recommended(&token(user(1)), "{}");
    assert!(!after.contains(&list[0]), "it hears of the like");
    drop(running);

    place.runtime.block_on(async {
        let (trainer, updater, server) = (
            trainer.store().await,
            updater.store().await,
            server.store().await,
        );
        writes_no_vectors(&trainer).await;
        writes_no_vectors(&server).await;
        records_nothing(&trainer).await;
        records_nothing(&updater).await;
        for store in [&trainer, &updater, &server] {
            let plan = ErasePlan {
                likes: true,
                skips: true,
                statements: Vec::new(),
            };
            refused(store.erase_user(user(1), &plan).await);
            refused(store.delete_events(Duration::from_secs(1), 1).await);
        }
        refused(server.refresh_statistics().await);
        // It is not the owner of the table, and builds the index nevertheless.
        let plan = IndexPlan {
            version: 1,
            dim: 8,
            rows: 40,
            memory_cap_mb: 64,
        };
        let built = updater.build_vector_index(&plan).await.unwrap();
        assert!(matches!(built, IndexOutcome::Built { .. }));
        assert_eq!(
            updater.build_vector_index(&plan).await.unwrap(),
            IndexOutcome::Present
        );
        refused(
            server
                .build_vector_index(&IndexPlan { version: 2, ..plan })
                .await,
        );
        for store in [trainer, updater, server] {
            store.close().await;
        }
    });
}
