use super::Generated;
use twotower_store::{InteractionKind, Store, StoreError};

/// Number of rows per transaction.
const BATCH: usize = 20_000;

/// Stores generated data; a repetition changes nothing. `progress` is called after each batch with
/// the number of rows written so far and their kind.
///
/// # Errors
/// If the store fails. Batches written before stay.
pub async fn write(
    store: &Store,
    generated: &Generated,
    progress: &(dyn Fn(u64, &str) + Send + Sync),
) -> Result<(), StoreError> {
    let mut rows = 0;
    for videos in generated.videos.chunks(BATCH) {
        store.write_videos(videos).await?;
        rows += videos.len() as u64;
        progress(rows, "videos");
    }
    for (kind, name, interactions) in [
        (InteractionKind::Like, "likes", &generated.likes),
        (InteractionKind::Skip, "skips", &generated.skips),
    ] {
        for batch in interactions.chunks(BATCH) {
            store.write_interactions(kind, batch).await?;
            rows += batch.len() as u64;
            progress(rows, name);
        }
    }
    Ok(())
}
