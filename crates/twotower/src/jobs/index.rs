//! The vector index and the statistics, which recommendations in SQL use.

use super::Retry;
use crate::config::Update;
use anyhow::Context;
use std::time::Instant;
use twotower_store::{IndexOutcome, IndexPlan, Store, StoreKind};

/// Minimum number of vectors for which an index is built. PostgreSQL scans fewer exactly in a few
/// milliseconds.
pub(crate) const INDEXED_FROM_ROWS: u64 = 10_000;

/// Builds the index of a version's video vectors, unless it exists.
///
/// # Errors
/// If the store fails.
pub(crate) async fn build(
    store: &Store,
    retry: &Retry,
    settings: &Update,
    plan: &IndexPlan,
) -> anyhow::Result<()> {
    let IndexPlan { rows, dim, .. } = *plan;
    if store.kind() == StoreKind::Sqlite || !settings.index || rows < INDEXED_FROM_ROWS {
        return Ok(());
    }
    let started = Instant::now();
    let outcome = retry
        .run("build the index", || store.build_vector_index(plan))
        .await
        .context(
            "build the index of video vectors (the next run begins it afresh; --no-index goes on without)",
        )?;
    if let IndexOutcome::Built { memory } = outcome {
        tracing::info!(
            "index: {rows} vectors of {dim} dimensions, built with maintenance_work_mem {memory} ({:.1} s)",
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// Refreshes the counts that recommendations in SQL use. A failure is only logged, because older
/// counts do as well.
pub(crate) async fn refresh_statistics(store: &Store, retry: &Retry) {
    let refreshed = retry.run("refresh the statistics", || store.refresh_statistics());
    if let Err(error) = refreshed.await {
        tracing::warn!(
            "the counts of likes that recommend_videos reads stay as they were: {error}"
        );
    }
}
