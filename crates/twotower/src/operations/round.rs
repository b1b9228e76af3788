//! A round of checks and alerts alongside other work; its errors do not stop that work.

use super::{Place, alert};
use std::time::Duration;

/// Exceeds the time of a round in which every check and channel hangs.
const LIMIT: Duration = Duration::from_mins(2);

/// Runs all watched checks and sends the alerts that are owed.
pub(super) async fn round(place: &Place) {
    match tokio::time::timeout(LIMIT, Box::pin(alert::watch(place))).await {
        // A delivery that failed is logged by its channel.
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!("nobody is told what is wrong: {error:#}"),
        Err(_) => tracing::warn!("nobody is told what is wrong: that takes longer than {LIMIT:?}"),
    }
}
