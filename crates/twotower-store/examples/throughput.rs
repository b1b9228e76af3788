//! Rows per second of bulk reading and writing: `cargo run --release --example throughput -- ADDRESS [LIKES]`.
//!
//! Writes into the database it is given: take an empty one.

use std::time::Instant;
use twotower_core::feature::Video;
use twotower_store::{
    ConnectOptions, EmbeddingRow, InteractionKind, InteractionRow, SnapshotOptions, Source, Store,
    StoreError, VectorTable, snapshot_sha256,
};
use uuid::Uuid;

const VIDEOS: u64 = 20_000;
const USERS: u64 = 50_000;
const DIM: usize = 64;

#[tokio::main]
async fn main() -> Result<(), StoreError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("sqlite::memory:".into());
    let likes: u64 = arguments
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let store = Store::connect(&address, ConnectOptions::default()).await?;
    store.migrate().await?;

    let videos: Vec<Video> = (0..VIDEOS)
        .map(|n| Video {
            id: scattered(n),
            title: format!("A title of usual length, number {n}"),
            description: "Some words about it. ".repeat(10),
            tags: (0..5)
                .map(|tag| format!("tag {}", (n + tag * 97) % 500))
                .collect(),
            ..Video::default()
        })
        .collect();
    let clock = Instant::now();
    store.write_videos(&videos).await?;
    report("videos written", VIDEOS, clock);
    let clock = Instant::now();
    store.write_videos(&videos).await?;
    report("videos found unchanged", VIDEOS, clock);

    let rows: Vec<InteractionRow> = (0..likes)
        .map(|n| InteractionRow {
            user: scattered(n % USERS + VIDEOS),
            video: videos[((n * 7_919 + n / USERS) % VIDEOS) as usize].id,
            at_us: 1_767_225_600_000_000 + (n * 48_271 % 31_536_000) as i64 * 1_000_000,
        })
        .collect();
    let clock = Instant::now();
    let mut new = 0;
    for chunk in rows.chunks(100_000) {
        new += store
            .write_interactions(InteractionKind::Like, chunk)
            .await?;
    }
    report("likes written", new, clock);

    let clock = Instant::now();
    let snapshot = store
        .read_snapshot(&Source::default(), SnapshotOptions::default())
        .await?;
    report(
        "likes read, catalogue included",
        snapshot.dataset.likes.len() as u64,
        clock,
    );
    let clock = Instant::now();
    snapshot_sha256(&snapshot.dataset);
    report(
        "likes hashed, catalogue included",
        snapshot.dataset.likes.len() as u64,
        clock,
    );

    let mut vector = [0.0; DIM];
    vector[0] = 1.0;
    let vectors: Vec<EmbeddingRow<'_>> = videos
        .iter()
        .map(|video| EmbeddingRow {
            id: video.id,
            fingerprint: 1,
            vector: &vector,
        })
        .collect();
    let table = VectorTable::Videos;
    for _ in 0..2 {
        let clock = Instant::now();
        store.write_embeddings(table, 1, &vectors).await?;
        report("vectors written", VIDEOS, clock);
    }
    let clock = Instant::now();
    store.read_embeddings(table, 1, DIM).await?;
    report("vectors read", VIDEOS, clock);
    let clock = Instant::now();
    store.read_fingerprints(table, 1).await?;
    report("fingerprints read", VIDEOS, clock);

    let clock = Instant::now();
    for n in 0..1_000 {
        store.user_history(rows[n * 31].user, 100).await?;
    }
    report("histories read one by one", 1_000, clock);
    let clock = Instant::now();
    for n in 0..1_000 {
        let row = rows[n * 17];
        store
            .record(InteractionKind::Skip, row.user, row.video)
            .await?;
    }
    report("skips recorded one by one", 1_000, clock);
    store.close().await;
    Ok(())
}

/// An id as random as real ones (splitmix64).
fn scattered(n: u64) -> Uuid {
    let mix = |n: u64| {
        let x = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Uuid::from_u64_pair(mix(n), mix(n ^ 0xffff))
}

fn report(what: &str, rows: u64, clock: Instant) {
    let seconds = clock.elapsed().as_secs_f64();
    println!(
        "{what:>34}: {rows:>9} in {seconds:>7.2} s, {:>9.0} a second",
        rows as f64 / seconds
    );
}
