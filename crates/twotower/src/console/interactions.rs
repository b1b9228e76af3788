use super::Console;
use crate::serve::{ApiError, invalid, read_object, refuse_unknown};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use std::sync::Arc;
use twotower_store::{Block, BlockKind, InteractionKind, StoreError};
use uuid::Uuid;

#[derive(Serialize)]
pub(super) struct Recorded {
    recorded: bool,
}

/// What a visitor can do with a recommended video.
enum Reaction {
    Interaction(InteractionKind),
    /// Never show it again.
    Hide,
    /// Undo that.
    Show,
}

/// `POST /console/interactions`: records the reaction of the token's user. `recorded` is false if
/// it changed nothing.
pub(super) async fn record(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Recorded>, ApiError> {
    let user = console.app.auth.authenticate(&headers).await?.user;
    let fields = read_object(&headers, &body)?;
    refuse_unknown(&fields, &["video_id", "kind"])?;
    let text = |name: &str| fields.get(name).and_then(|value| value.as_str());
    let video = text("video_id")
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| invalid("`video_id` must be a UUID"))?;
    let reaction = match text("kind") {
        Some("like") => Reaction::Interaction(InteractionKind::Like),
        Some("skip") => Reaction::Interaction(InteractionKind::Skip),
        Some("hide") => Reaction::Hide,
        Some("show") => Reaction::Show,
        _ => {
            return Err(invalid(
                "`kind` must be \"like\", \"skip\", \"hide\" or \"show\"",
            ));
        }
    };
    let block = Block {
        kind: BlockKind::Video,
        value: video.to_string(),
    };
    let store = &console.app.store;
    let step = async {
        let outcome = match reaction {
            Reaction::Interaction(kind) => store.record(kind, user, video).await,
            Reaction::Hide => store.add_block(user, &block).await,
            Reaction::Show => store.remove_block(user, &block).await,
        };
        match outcome {
            Err(StoreError::UnknownVideo(_)) => Ok(Err(invalid("`video_id` names no video"))),
            Err(error @ StoreError::ReadElsewhere(_)) => Ok(Err(invalid(error.to_string()))),
            outcome => outcome.map(Ok),
        }
    };
    let recorded = console.within(step).await??;
    console.app.user_changed(user);
    Ok(Json(Recorded { recorded }))
}
