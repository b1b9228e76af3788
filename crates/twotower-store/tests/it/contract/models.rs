//! The registry of models.

use super::{START_US, contract, model, promotion, vector_rows, video_id, with_videos};
use serde_json::json;
use twotower_store::{
    Activation, ActivationKind, ModelState, NewModel, Store, StoreError, VectorTable,
};

contract! {
    versions_ascend,
    a_model_goes_through_its_life,
    activations_are_remembered,
    another_model_does_not_take_a_number,
}

async fn versions_ascend(store: &Store) {
    let first = store.next_model_version().await.unwrap();
    let second = store.next_model_version().await.unwrap();
    assert_eq!((first, second), (1, 2));
}

async fn a_model_goes_through_its_life(store: &Store) {
    assert_eq!(store.active_model().await.unwrap(), None);
    let unknown = store.activate_model(&promotion(7)).await;
    assert!(matches!(unknown, Err(StoreError::UnknownModel(7))));
    let unknown = store.set_model_state(7, ModelState::Failed).await;
    assert!(matches!(unknown, Err(StoreError::UnknownModel(7))));
    for version in [1, 2] {
        store.register_model(&model(version)).await.unwrap();
    }
    let early = store.activate_model(&promotion(1)).await;
    assert!(matches!(
        early,
        Err(StoreError::NotActivatable {
            version: 1,
            state: ModelState::Loading
        })
    ));
    for version in [1, 2] {
        store
            .set_model_state(version, ModelState::Candidate)
            .await
            .unwrap();
    }
    let wrong_way = store.set_model_state(1, ModelState::Active).await;
    assert!(matches!(wrong_way, Err(StoreError::SetActive(1))));
    store.activate_model(&promotion(1)).await.unwrap();
    store.activate_model(&promotion(1)).await.unwrap();
    let active = store.active_model().await.unwrap().unwrap();
    assert_eq!((active.version, active.state), (1, ModelState::Active));
    assert_eq!(active.metrics, model(1).metrics);
    assert_eq!(active.cut_off_us, Some(START_US + 1));
    assert_eq!(active.embedding_dim, 2);
    assert!(active.activated_at_us.unwrap() >= active.created_at_us);
    for refused in [
        store.register_model(&model(1)).await,
        store.set_model_state(1, ModelState::Retired).await,
    ] {
        assert!(matches!(refused, Err(StoreError::ActiveModel(1))));
    }
    store.activate_model(&promotion(2)).await.unwrap();
    let states = |models: Vec<twotower_store::ModelRecord>| -> Vec<_> {
        models
            .into_iter()
            .map(|model| (model.version, model.state))
            .collect()
    };
    assert_eq!(
        states(store.models().await.unwrap()),
        [(2, ModelState::Active), (1, ModelState::Retired)]
    );
    // Rollback, then another candidate.
    store.activate_model(&promotion(1)).await.unwrap();
    store.register_model(&model(2)).await.unwrap();
    assert_eq!(
        states(store.models().await.unwrap()),
        [(2, ModelState::Loading), (1, ModelState::Active)]
    );
}

async fn activations_are_remembered(store: &Store) {
    for version in [1, 2] {
        store.register_model(&model(version)).await.unwrap();
    }
    let loaded = Activation {
        kind: ActivationKind::Loaded,
        ..promotion(1)
    };
    store.activate_model(&loaded).await.unwrap();
    store.fail_model(2, "too short").await.unwrap();
    assert!(store.activate_model(&promotion(2)).await.is_err());
    let details = store.model_details(2).await.unwrap();
    assert_eq!(details.record.state, ModelState::Failed);
    assert_eq!(details.reason.as_deref(), Some("too short"));
    assert!(details.activations.is_empty());
    store.register_model(&model(2)).await.unwrap();
    let state = store.set_model_state(2, ModelState::Candidate);
    state.await.unwrap();
    let forced = Activation {
        forced: true,
        ..promotion(2)
    };
    store.activate_model(&forced).await.unwrap();
    store.activate_model(&forced).await.unwrap();
    let back = Activation {
        kind: ActivationKind::Rollback,
        ..promotion(1)
    };
    store.activate_model(&back).await.unwrap();
    let history = store.activations().await.unwrap();
    let seen: Vec<_> = history
        .iter()
        .map(|one| (one.version, one.kind, one.previous_version, one.forced))
        .collect();
    assert_eq!(
        seen,
        [
            (1, ActivationKind::Loaded, None, false),
            (2, ActivationKind::Promotion, Some(1), true),
            (1, ActivationKind::Rollback, Some(2), false),
        ]
    );
    assert_eq!(
        (&*history[1].by, &*history[1].reason),
        ("ann", "2 is better")
    );
    let details = store.model_details(1).await.unwrap();
    assert_eq!(details.hyperparameters, json!({"seed": 42}));
    assert_eq!(
        (&*details.snapshot_sha256, &*details.record.manifest_sha256),
        ("ab", "cd")
    );
    assert_eq!(
        details.activations,
        [history[0].clone(), history[2].clone()]
    );
    assert!(details.retired_at_us.is_some(), "it was retired in between");
    let unknown = store.model_details(3).await;
    assert!(matches!(unknown, Err(StoreError::UnknownModel(3))));
}

/// In no valid state: partially loaded, active, and retired without vectors.
async fn another_model_does_not_take_a_number(store: &Store) {
    with_videos(store, 3).await;
    let other = NewModel {
        manifest_sha256: "ef".into(),
        ..model(1)
    };
    let refused = async || {
        let before = store.model_details(1).await.unwrap();
        let refused = store.register_model(&other).await.unwrap_err();
        let StoreError::OtherModel {
            version: 1,
            registered,
            given,
        } = &refused
        else {
            panic!("{refused}")
        };
        assert_eq!((&**registered, &**given), ("cd", "ef"));
        assert_eq!(store.model_details(1).await.unwrap(), before);
    };
    store.register_model(&model(1)).await.unwrap();
    let rows = vector_rows(&[1, 2].map(video_id));
    let written = store.write_embeddings(VectorTable::Videos, 1, &rows);
    written.await.unwrap();
    refused().await;
    store.register_model(&model(1)).await.unwrap();
    let complete = store.set_model_state(1, ModelState::Candidate);
    complete.await.unwrap();
    refused().await;
    store.activate_model(&promotion(1)).await.unwrap();
    refused().await;
    let active = store.active_model().await.unwrap().unwrap();
    assert_eq!(active.manifest_sha256, "cd");
    assert!(active.is_model("cd").is_ok() && active.is_model("ef").is_err());

    let next = NewModel {
        version: 2,
        ..other.clone()
    };
    store.register_model(&next).await.unwrap();
    let complete = store.set_model_state(2, ModelState::Candidate);
    complete.await.unwrap();
    store.activate_model(&promotion(2)).await.unwrap();
    store.prune_model(1).await.unwrap();
    refused().await;
    let registered: Vec<_> = store.models().await.unwrap();
    let registered: Vec<_> = registered
        .iter()
        .map(|record| (record.version, &*record.manifest_sha256))
        .collect();
    assert_eq!(registered, [(2, "ef"), (1, "cd")]);
    let left = store.read_fingerprints(VectorTable::Videos, 1).await;
    assert_eq!(left.unwrap().len(), 2, "those of the first model stay");
}
