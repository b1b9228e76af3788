use crate::serve::error::ApiError;
use crate::serve::limits::Limits;
use std::future::Future;
use twotower_store::{Store, StoreError, UserHistory};
use uuid::Uuid;

/// So many latest likes and skips make the user's vector. Older ones would hardly move it; all likes are filtered still.
const HISTORY_LIMIT: u32 = 1000;

/// What the database knows of a user now.
#[derive(Debug)]
pub(super) struct Past {
    /// The latest likes and skips.
    pub(super) recent: UserHistory,
    /// Likes older than those, in no order; some of `recent` may be among them.
    pub(super) older_likes: Vec<Uuid>,
}

/// Reads likes and skips. Without them nobody could promise that a liked video does not come back, so there is no answer if
/// the database gives none.
pub(super) async fn read(store: &Store, user: Uuid, limits: &Limits) -> Result<Past, ApiError> {
    let recent = within(limits, store.user_history(user, HISTORY_LIMIT)).await?;
    let older_likes = if recent.likes.len() < HISTORY_LIMIT as usize {
        Vec::new()
    } else {
        within(limits, store.liked_videos(user)).await?
    };
    Ok(Past {
        recent,
        older_likes,
    })
}

async fn within<T>(
    limits: &Limits,
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(limits.database, step).await {
        Ok(outcome) => outcome.map_err(|error| ApiError::store(&error)),
        Err(_) => Err(ApiError::Timeout {
            stage: "the database",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_step_has_a_deadline() {
        let limits = Limits {
            database: Duration::from_millis(1),
            ..Limits::default()
        };
        let never = std::future::pending::<Result<(), StoreError>>();
        let outcome = within(&limits, never).await;
        assert!(matches!(outcome, Err(ApiError::Timeout { .. })));
    }
}
