//! The contract of a store, for both engines.

mod videos;

mod interactions;

mod snapshots;

mod models;

mod vectors;

mod lease;

mod erasure;

mod job_runs;

mod backups;

mod restorations;

mod inspection;

mod maintenance;

mod serving;

mod mapped;

mod text_ids;

mod events;

use serde_json::json;
use twotower_core::feature::Video;
use twotower_store::{
    Activation, ActivationKind, EmbeddingRow, InteractionKind, InteractionRow, NewModel, Snapshot,
    SnapshotOptions, Source, Store,
};
use uuid::Uuid;

/// Runs each test below on each engine.
macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            use crate::database;

            $(
                #[tokio::test]
                async fn $test() {
                    let store = database::sqlite().await;
                    super::$test(&store).await;
                }
            )*
        }
        mod on_postgres {
            use crate::database;
            $(
                #[tokio::test]
                async fn $test() {
                    let store = database::postgres().await;
                    super::$test(&store).await;
                }
            )*
        }
    };
}
use contract;
use twotower_core::time::DAY_US;

const LIKE: InteractionKind = InteractionKind::Like;
const SKIP: InteractionKind = InteractionKind::Skip;

/// 2026-01-01 UTC.
const START_US: i64 = 1_767_225_600_000_000;

/// Video `n`. The number is in the high digits, so that ids do not sort by accident.
fn video_id(n: u128) -> Uuid {
    Uuid::from_u128(n << 64 | 7)
}

fn user_id(n: u128) -> Uuid {
    Uuid::from_u128(n << 96 | 0xf000)
}

fn video(n: u128) -> Video {
    Video {
        id: video_id(n),
        title: format!("題名 {n} 🎬"),
        description: "two\nlines, 'quotes' \"and\" \\ backslash".into(),
        genre: Some("drama".into()),
        maker: n.is_multiple_of(2).then(|| "studio".into()),
        price: Some(9.99 + n as f32),
        duration_seconds: Some(61.5),
        published_at_us: Some(START_US + 123_456),
        thumbnail_url: Some(format!("https://example.com/{n}.jpg")),
        tags: vec!["a".into(), "é".into(), "日本".into()],
        performers: vec!["P".into(), "p".into()],
    }
}

fn row(user: u128, video: u128, at_us: i64) -> InteractionRow {
    InteractionRow {
        user: user_id(user),
        video: video_id(video),
        at_us,
    }
}

async fn with_videos(store: &Store, n: u128) {
    let videos: Vec<Video> = (1..=n).map(video).collect();
    store.write_videos(&videos).await.unwrap();
}

async fn snapshot(store: &Store) -> Snapshot {
    store
        .read_snapshot(&Source::default(), SnapshotOptions::default())
        .await
        .unwrap()
}

fn model(version: i64) -> NewModel {
    NewModel {
        version,
        embedding_dim: 2,
        cut_off_us: Some(START_US + 1),
        snapshot_sha256: "ab".into(),
        hyperparameters: json!({"seed": 42}),
        metrics: json!({"ndcg_at_10": 0.1, "nested": {"text": "日本"}}),
        manifest_sha256: "cd".into(),
        erasures_seen: Some(0),
    }
}

fn promotion(version: i64) -> Activation {
    Activation {
        version,
        kind: ActivationKind::Promotion,
        by: "ann".into(),
        reason: format!("{version} is better"),
        forced: false,
    }
}

const VECTORS: [[f32; 2]; 3] = [[0.6, 0.8], [1.0, -1e-30], [-0.8, 0.6]];

fn vector_rows(ids: &[Uuid]) -> Vec<EmbeddingRow<'static>> {
    ids.iter()
        .zip(&VECTORS)
        .zip([i64::MIN, -1, i64::MAX])
        .map(|((&id, vector), fingerprint)| EmbeddingRow {
            id,
            fingerprint,
            vector,
        })
        .collect()
}
