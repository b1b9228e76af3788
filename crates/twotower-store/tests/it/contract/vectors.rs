//! Vectors of every version.

use super::{VECTORS, contract, user_id, vector_rows, video_id};
use std::time::Duration;
use twotower_core::embedding::EmbeddingError;
use twotower_store::{EmbeddingRow, ErasePlan, Store, StoreError, VectorSummary, VectorTable};
use uuid::Uuid;

contract! {
    vectors_are_counted_and_summarized,
    vectors_come_back_to_the_bit,
    bad_vectors_are_refused_before_writing,
    generations_do_not_meet,
    vectors_grow_old,
    new_vectors_are_inserted_and_old_ones_replaced,
    nobody_who_was_erased_is_inserted,
}

async fn vectors_are_counted_and_summarized(store: &Store) {
    let table = VectorTable::Users;
    assert!(store.count_vectors(table).await.unwrap().is_empty());
    let rows = vector_rows(&[1, 2, 3].map(video_id));
    store.write_embeddings(table, 1, &rows).await.unwrap();
    let other = [EmbeddingRow {
        vector: &[0.0, 0.6, 0.8],
        ..rows[2]
    }];
    store.write_embeddings(table, 1, &other).await.unwrap();
    store.write_embeddings(table, 4, &rows[..2]).await.unwrap();
    let counts = store.count_vectors(table).await.unwrap();
    assert_eq!(counts, [(1, 3), (4, 2)]);
    let expected = VectorSummary {
        rows: 3,
        wrong_dimension: 1,
        ..VectorSummary::default()
    };
    let summary = store.summarize_vectors(table, 1, 2).await.unwrap();
    assert_eq!(summary, expected);
    let nothing = store.summarize_vectors(table, 2, 2).await.unwrap();
    assert_eq!(nothing, VectorSummary::default());
}

async fn vectors_come_back_to_the_bit(store: &Store) {
    for table in [VectorTable::Videos, VectorTable::Users] {
        let ids = [3, 1, 2].map(video_id);
        let rows = vector_rows(&ids);
        store.write_embeddings(table, 5, &rows).await.unwrap();
        let (read, embeddings) = store.read_embeddings(table, 5, 2).await.unwrap();
        assert_eq!(read, [1, 2, 3].map(video_id));
        let expected = [VECTORS[1], VECTORS[2], VECTORS[0]].concat();
        assert_eq!(
            embeddings
                .as_slice()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>(),
            expected.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(
            store.read_fingerprints(table, 5).await.unwrap(),
            [(ids[1], -1), (ids[2], i64::MAX), (ids[0], i64::MIN)]
        );
        // Written again with changes: replaced.
        let change = EmbeddingRow {
            fingerprint: 4,
            vector: &VECTORS[0],
            ..rows[1]
        };
        let twice = [rows[1], change];
        store.write_embeddings(table, 5, &twice).await.unwrap();
        let (read, embeddings) = store.read_embeddings(table, 5, 2).await.unwrap();
        assert_eq!((read.len(), embeddings.row(0)), (3, &VECTORS[0][..]));
        let gone = [video_id(1), video_id(3), video_id(99)];
        assert_eq!(store.delete_embeddings(table, 5, &gone).await.unwrap(), 2);
        assert_eq!(store.delete_embeddings(table, 5, &[]).await.unwrap(), 0);
        let left = store.read_fingerprints(table, 5).await.unwrap();
        assert_eq!(left, [(video_id(2), i64::MAX)]);
        store.write_embeddings(table, 5, &[]).await.unwrap();
    }
}

async fn bad_vectors_are_refused_before_writing(store: &Store) {
    let good: &[f32] = &[1.0, 0.0];
    let bad: [&[f32]; 4] = [&[f32::NAN, 1.0], &[f32::INFINITY, 0.0], &[1.0, 1.0], &[1.0]];
    for vector in bad {
        let rows = [(1, good), (2, vector)].map(|(n, vector)| EmbeddingRow {
            id: video_id(n),
            fingerprint: 0,
            vector,
        });
        let error = store
            .write_embeddings(VectorTable::Users, 1, &rows)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Vector { row: 1, .. }),
            "{error}"
        );
    }
    let table = VectorTable::Users;
    assert!(store.read_fingerprints(table, 1).await.unwrap().is_empty());
    // Existing vectors do not pass for another dimension either.
    let rows = vector_rows(&[video_id(1)]);
    store.write_embeddings(table, 1, &rows).await.unwrap();
    let error = store.read_embeddings(table, 1, 3).await.unwrap_err();
    assert!(matches!(
        error,
        StoreError::Vector {
            cause: EmbeddingError::Dimension {
                expected: 3,
                actual: 2
            },
            ..
        }
    ));
}

async fn generations_do_not_meet(store: &Store) {
    let table = VectorTable::Videos;
    let rows = vector_rows(&[1, 2].map(video_id));
    for version in [1, 2] {
        store.write_embeddings(table, version, &rows).await.unwrap();
    }
    let ids = [video_id(1)];
    assert_eq!(store.delete_embeddings(table, 1, &ids).await.unwrap(), 1);
    assert_eq!(store.read_fingerprints(table, 1).await.unwrap().len(), 1);
    assert_eq!(store.read_fingerprints(table, 2).await.unwrap().len(), 2);
    assert_eq!(store.read_embeddings(table, 3, 2).await.unwrap().0.len(), 0);
}

async fn vectors_grow_old(store: &Store) {
    let table = VectorTable::Users;
    assert!(store.vector_ages(table).await.unwrap().is_empty());
    let rows = vector_rows(&[1, 2, 3].map(video_id));
    store.write_embeddings(table, 1, &rows).await.unwrap();
    store.write_embeddings(table, 2, &rows[..1]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.write_embeddings(table, 1, &rows[1..2]).await.unwrap();
    let old = Duration::from_millis(150);
    let unwritten = store.unwritten_vectors(table, 1, old).await.unwrap();
    assert_eq!(unwritten, [1, 3].map(video_id));
    let hour = Duration::from_hours(1);
    assert!(
        store
            .unwritten_vectors(table, 1, hour)
            .await
            .unwrap()
            .is_empty()
    );
    let ages = store.vector_ages(table).await.unwrap();
    let rows: Vec<_> = ages.iter().map(|age| (age.version, age.rows)).collect();
    assert_eq!(rows, [(1, 3), (2, 1)]);
    assert!(ages[1].age > old && ages[0].age < ages[1].age && ages[1].age < hour);
    assert!(ages.iter().all(|age| age.known_age == Some(age.age)));
}

async fn new_vectors_are_inserted_and_old_ones_replaced(store: &Store) {
    for table in [VectorTable::Videos, VectorTable::Users] {
        let ids = [1, 2, 3].map(video_id);
        let rows = vector_rows(&ids);
        store.insert_embeddings(table, 5, &rows).await.unwrap();
        store.insert_embeddings(table, 6, &rows).await.unwrap();
        let (read, embeddings) = store.read_embeddings(table, 5, 2).await.unwrap();
        assert_eq!(
            (read, embeddings.as_slice()),
            (ids.to_vec(), &VECTORS.concat()[..])
        );
        let between = async |from, until| {
            let found = store.fingerprints_between(table, 5, from, until).await;
            found
                .unwrap()
                .into_iter()
                .map(|(id, _)| id)
                .collect::<Vec<_>>()
        };
        assert_eq!(between(Uuid::nil(), None).await, ids);
        assert_eq!(between(ids[1], Some(ids[2])).await, [ids[1]]);
        assert!(between(video_id(9), None).await.is_empty());
        // The answer to a first try may have been lost, and others may have written meanwhile.
        let mut again = rows.clone();
        again[1].vector = &VECTORS[0];
        again[1].fingerprint = 4;
        store.insert_embeddings(table, 5, &again).await.unwrap();
        let (read, embeddings) = store.read_embeddings(table, 5, 2).await.unwrap();
        assert_eq!((read.len(), embeddings.row(1)), (3, &VECTORS[0][..]));
        let fingerprints = store.read_fingerprints(table, 5).await.unwrap();
        assert_eq!(fingerprints[1], (ids[1], 4));
        let bad = [EmbeddingRow {
            vector: &[1.0, 1.0],
            ..rows[0]
        }];
        let error = store.insert_embeddings(table, 7, &bad).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Vector { row: 0, .. }),
            "{error}"
        );
        store.insert_embeddings(table, 7, &[]).await.unwrap();
    }
}

async fn nobody_who_was_erased_is_inserted(store: &Store) {
    let ids = [1, 2].map(user_id);
    let plan = ErasePlan::default();
    store.erase_user(ids[0], &plan).await.unwrap();
    let rows = vector_rows(&ids);
    let table = VectorTable::Users;
    store.insert_embeddings(table, 5, &rows).await.unwrap();
    let left = store.read_fingerprints(table, 5).await.unwrap();
    assert_eq!(left, [(ids[1], -1)]);
    store.insert_embeddings(table, 5, &rows[..1]).await.unwrap();
    assert_eq!(store.read_fingerprints(table, 5).await.unwrap().len(), 1);
}
