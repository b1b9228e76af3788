//! One publisher at a time.

use super::{START_US, contract, model, promotion, vector_rows, video_id};
use std::time::Duration;
use twotower_store::{
    Activation, ActivationKind, IndexPlan, Lease, LeaseHolder, LeaseOutcome, ModelState, Store,
    StoreError, VectorTable,
};

contract! {
    there_is_one_publisher,
    a_lost_lease_stops_every_write,
}

const LONG: Duration = Duration::from_mins(10);

fn holder(pid: u32) -> LeaseHolder {
    LeaseHolder {
        host: "host".into(),
        pid,
        since_us: START_US + i64::from(pid),
    }
}

async fn taken(store: &Store, pid: u32, lifetime: Duration) -> Lease {
    match store.take_lease(&holder(pid), lifetime).await.unwrap() {
        LeaseOutcome::Taken(lease) => lease,
        LeaseOutcome::Held(other) => panic!("{other:?} holds the lease"),
    }
}

async fn there_is_one_publisher(store: &Store) {
    let asking = (0..12).map(|pid| async move {
        let outcome = store.take_lease(&holder(pid), LONG).await.unwrap();
        matches!(outcome, LeaseOutcome::Taken(_)).then_some(pid)
    });
    let outcomes = futures_util::future::join_all(asking).await;
    let winners: Vec<u32> = outcomes.into_iter().flatten().collect();
    let [winner] = winners[..] else {
        panic!("{winners:?} have it")
    };
    let held = store.take_lease(&holder(99), LONG).await.unwrap();
    assert_eq!(held, LeaseOutcome::Held(holder(winner)));
    // A caller that lost the answer asks again.
    let lease = taken(store, winner, LONG).await;
    store.renew_lease(lease).await.unwrap();
    let rows = vector_rows(&[video_id(1)]);
    let ours = store.under(lease);
    let written = ours.write_embeddings(VectorTable::Videos, 1, &rows);
    written.await.unwrap();
    store.release_lease(lease).await.unwrap();
    taken(store, 99, LONG).await;
}

async fn a_lost_lease_stops_every_write(store: &Store) {
    let rows = vector_rows(&[1, 2].map(video_id));
    let table = VectorTable::Videos;
    let old = taken(store, 1, Duration::ZERO).await;
    let sleeper = store.under(old);
    sleeper.register_model(&model(1)).await.unwrap();
    // Expired, but no other process has taken it.
    let written = sleeper.write_embeddings(table, 1, &rows[..1]);
    written.await.unwrap();
    let new = taken(store, 2, LONG).await;
    let plan = IndexPlan {
        version: 1,
        dim: 2,
        rows: 1,
        memory_cap_mb: 64,
    };
    let mut refused = vec![
        sleeper.register_model(&model(2)).await,
        sleeper.write_embeddings(table, 1, &rows).await,
        sleeper
            .delete_embeddings(table, 1, &[video_id(1)])
            .await
            .map(|_| ()),
        sleeper.set_model_state(1, ModelState::Candidate).await,
        sleeper.fail_model(1, "").await,
        sleeper.activate_model(&promotion(1)).await.map(|_| ()),
        sleeper.renew_lease(old).await,
    ];
    if store.kind() == twotower_store::StoreKind::Postgres {
        refused.push(sleeper.build_vector_index(&plan).await.map(|_| ()));
    }
    for (n, result) in refused.into_iter().enumerate() {
        assert!(
            matches!(result, Err(StoreError::LeaseLost)),
            "{n}: {result:?}"
        );
    }
    assert_eq!(store.count_vectors(table).await.unwrap(), [(1, 1)]);
    assert_eq!(store.models().await.unwrap().len(), 1);
    // Releasing a lease that is not ours changes nothing.
    store.release_lease(old).await.unwrap();
    store.renew_lease(new).await.unwrap();
    let working = store.under(new);
    working.write_embeddings(table, 1, &rows).await.unwrap();
    let loaded = Activation {
        kind: ActivationKind::Loaded,
        ..promotion(1)
    };
    working.activate_model(&loaded).await.unwrap();
    assert_eq!(store.count_vectors(table).await.unwrap(), [(1, 2)]);
}
