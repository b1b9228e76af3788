//! Maintenance does not change the data.

use super::{contract, user_id, vector_rows, video_id};
use std::time::Duration;
use twotower_store::{StepLimits, Store, Upkeep, VectorTable};

contract! {
    upkeep_changes_nothing_that_is_read,
}

const LIMITS: StepLimits = StepLimits {
    lock: Duration::from_secs(2),
    statement: Duration::from_mins(5),
    memory_mb: 64,
};

async fn upkeep_changes_nothing_that_is_read(store: &Store) {
    let videos = vector_rows(&[1, 2, 3].map(video_id));
    let users = vector_rows(&[1, 2, 3].map(user_id));
    for (table, rows) in [(VectorTable::Videos, &videos), (VectorTable::Users, &users)] {
        store.write_embeddings(table, 1, rows).await.unwrap();
    }
    let health = store.health().await.unwrap();
    let tables = health.tables.iter().map(|table| Upkeep::Vacuum {
        table: table.name.clone(),
    });
    let others = [
        Upkeep::Analyze {
            table: "public.video_embeddings".into(),
        },
        Upkeep::DeleteAnswers {
            age: Duration::from_hours(1),
        },
        Upkeep::DeleteRuns {
            age: Duration::from_hours(1),
        },
        Upkeep::Optimize,
        Upkeep::CheckFile,
        Upkeep::ShrinkFile,
    ];
    for step in tables.chain(others) {
        assert_eq!(store.maintain(&step, LIMITS).await.unwrap(), 0, "{step:?}");
    }
    for (table, rows) in [(VectorTable::Videos, &videos), (VectorTable::Users, &users)] {
        let (_, vectors) = store.read_embeddings(table, 1, 2).await.unwrap();
        let mut expected: Vec<_> = rows.iter().map(|row| (row.id, row.vector)).collect();
        expected.sort_unstable_by_key(|(id, _)| *id);
        for (row, (_, vector)) in expected.into_iter().enumerate() {
            assert_eq!(vectors.row(row), vector);
        }
    }
}
