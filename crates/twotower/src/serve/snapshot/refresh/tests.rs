use super::*;
use crate::serve::snapshot::videos::VideosBuilder;
use crate::serve::snapshot::{LoadedModel, Popularity};
use serde_json::json;
use std::sync::atomic::AtomicI64;
use twotower_core::embedding::Embeddings;
use twotower_core::feature::Video;
use twotower_core::index::{Attributes, Index, IndexOptions};
use twotower_core::tower::UserTower;
use twotower_store::{
    Activation, ActivationKind, ConnectOptions, EmbeddingRow, NewModel, VideoFacts,
};

const VECTOR: [f32; 2] = [0.6, 0.8];

async fn write(store: &Store, ids: &[Uuid]) {
    let videos = ids.iter().map(|&id| Video {
        id,
        ..Video::default()
    });
    store
        .write_videos(&videos.collect::<Vec<_>>())
        .await
        .unwrap();
    let rows = ids.iter().map(|&id| EmbeddingRow {
        id,
        fingerprint: 0,
        vector: &VECTOR,
    });
    let rows: Vec<_> = rows.collect();
    store
        .write_embeddings(VectorTable::Videos, 1, &rows)
        .await
        .unwrap();
}

/// A database with version 1 active, and these videos.
async fn store(ids: &[Uuid]) -> Store {
    let store = Store::connect("sqlite::memory:", ConnectOptions::default());
    let store = store.await.unwrap();
    store.migrate().await.unwrap();
    let model = NewModel {
        version: 1,
        embedding_dim: VECTOR.len(),
        cut_off_us: None,
        snapshot_sha256: "ab".into(),
        hyperparameters: json!({}),
        metrics: json!({}),
        manifest_sha256: "cd".into(),
        erasures_seen: None,
    };
    store.register_model(&model).await.unwrap();
    write(&store, ids).await;
    let activation = Activation {
        version: 1,
        kind: ActivationKind::Loaded,
        by: "ann".into(),
        reason: "first".into(),
        forced: false,
    };
    store.activate_model(&activation).await.unwrap();
    store
}

/// A snapshot that no other code produces: of `ids`, the index has only the first, so comparing the
/// vector of another one panics.
fn broken(ids: &[Uuid], catalogue: Catalogue) -> Snapshot {
    let mut builder = VideosBuilder::new(None, catalogue);
    for &id in ids {
        builder.push(&VideoFacts {
            id,
            ..VideoFacts::default()
        });
    }
    let vectors = Embeddings::from_rows(VECTOR.len(), VECTOR.to_vec()).unwrap();
    let index = Index::new(vectors, Attributes::none(1), &IndexOptions::default());
    let tower = UserTower::zeros(vec![1.0], 0.5, 1, VECTOR.len());
    Snapshot {
        revision: 0,
        popular_revision: 0,
        model: Some(LoadedModel {
            version: 1,
            manifest_sha256: "cd".into(),
            user_tower: Arc::new(tower),
            index: index.unwrap(),
            read_at_us: AtomicI64::new(0),
            stamp: (0, 0),
        }),
        videos: builder.finish().unwrap(),
        popularity: Popularity::default(),
        read: CatalogueRead::since(Instant::now()),
    }
}

#[tokio::test]
async fn a_panic_over_new_vectors_has_everything_read_again() {
    let ids = [1, 2].map(Uuid::from_u128);
    let store = store(&ids).await;
    let options = SnapshotOptions {
        groups: false,
        new_days: 0,
    };
    let snapshots = Snapshots::new(store.clone(), "none".into(), options, Arc::default());
    snapshots.served.store(Some(Arc::new(Served {
        active: Arc::new(broken(&ids, snapshots.catalogue())),
        challenger: None,
    })));
    // The catalogue is never due, so everything read is read for the vectors.
    let poll = Duration::MAX;
    snapshots.refresh(poll).await;
    assert_eq!(snapshots.problem(), None);
    let held = snapshots.current().unwrap();
    let model = held.model.as_ref().unwrap();
    assert_eq!((model.index.len(), model.index.delta_len()), (2, 0));
    // Further rounds work.
    let third = Uuid::from_u128(3);
    write(&store, &[third]).await;
    snapshots.refresh(poll).await;
    let held = snapshots.current().unwrap();
    let model = held.model.as_ref().unwrap();
    assert_eq!((model.index.len(), model.index.delta_len()), (3, 1));
    assert_eq!(held.videos.position(third), Some(2));
    assert_eq!(held.vector(2), Some(&VECTOR[..]));
}
