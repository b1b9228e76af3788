use super::Console;
use crate::import::id;
use crate::serve::{ApiError, SessionKey, invalid, read_object, refuse_unknown};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use std::sync::Arc;
use uuid::{Builder, Uuid};

#[derive(Serialize)]
pub(super) struct Session {
    user: Uuid,
    token: String,
    expires_in_s: u64,
}

/// `POST /console/session`: a short-lived token for `user`, whose id is parsed as import does, or
/// for a new user.
pub(super) async fn create(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Session>, ApiError> {
    let fields = read_object(&headers, &body)?;
    refuse_unknown(&fields, &["user"])?;
    let user = match fields.get("user") {
        None => new_user()?,
        Some(value) => value
            .as_str()
            .and_then(id::from_text)
            .filter(|user| !user.is_nil())
            .ok_or_else(|| invalid(format!("`user` must be {}", id::EXPECTED)))?,
    };
    let token = console.session.mint(user).map_err(ApiError::internal)?;
    Ok(Json(Session {
        user,
        token,
        expires_in_s: SessionKey::LIFETIME_S,
    }))
}

fn new_user() -> Result<Uuid, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(ApiError::internal)?;
    Ok(Builder::from_random_bytes(bytes).into_uuid())
}
