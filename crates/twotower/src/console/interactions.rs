use super::Console;
use crate::serve::{ApiError, invalid, read_object, refuse_unknown};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use std::sync::Arc;
use twotower_store::{InteractionKind, StoreError};
use uuid::Uuid;

#[derive(Serialize)]
pub(super) struct Recorded {
    recorded: bool,
}

/// `POST /console/interactions`: a like or skip of the token's user. `recorded` is false if it was there already.
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
    let kind = match text("kind") {
        Some("like") => InteractionKind::Like,
        Some("skip") => InteractionKind::Skip,
        _ => return Err(invalid("`kind` must be \"like\" or \"skip\"")),
    };
    let step = async {
        match console.app.store.record(kind, user, video).await {
            Err(StoreError::UnknownVideo(_)) => Ok(None),
            outcome => outcome.map(Some),
        }
    };
    let recorded = console
        .within(step)
        .await?
        .ok_or_else(|| invalid("`video_id` names no video"))?;
    Ok(Json(Recorded { recorded }))
}
