//! A round of looking and telling beside other work, which trouble with it does not stop.

use super::{Place, alert};
use std::time::Duration;

/// Longer than checks and channels take that all hang.
const LIMIT: Duration = Duration::from_mins(2);

/// Looks at everything that is watched and tells what is to be told.
pub(super) async fn round(place: &Place) {
    match tokio::time::timeout(LIMIT, Box::pin(alert::watch(place))).await {
        // What did not arrive is logged where it was sent.
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!("nobody is told what is wrong: {error:#}"),
        Err(_) => tracing::warn!("nobody is told what is wrong: that takes longer than {LIMIT:?}"),
    }
}
