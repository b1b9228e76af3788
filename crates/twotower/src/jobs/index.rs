//! What the database makes of vectors, for those who search in SQL.

use super::Retry;
use crate::config::Update;
use anyhow::Context;
use std::time::Instant;
use twotower_store::{IndexOutcome, IndexPlan, Store, StoreKind};

/// Vectors from which on an index is built: PostgreSQL scans fewer in a few milliseconds, exactly.
pub(crate) const INDEXED_FROM_ROWS: u64 = 10_000;

/// The index of a version's video vectors, unless it is there.
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

/// What recommendations in SQL are made from. Older counts will do where new ones cannot be had.
pub(crate) async fn refresh_statistics(store: &Store, retry: &Retry) {
    let refreshed = retry.run("refresh the statistics", || store.refresh_statistics());
    if let Err(error) = refreshed.await {
        tracing::warn!(
            "the counts of likes that recommend_videos reads stay as they were: {error}"
        );
    }
}
