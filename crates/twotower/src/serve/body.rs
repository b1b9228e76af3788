use super::error::ApiError;
use super::limits::Limits;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

/// Bodies are a few fields; a list of ids at most.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// Longest piece of a request that an answer repeats.
const MAX_ECHO_CHARS: usize = 40;

/// Reads a body that is one JSON object; an empty body is an empty object.
pub(crate) async fn read_object(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Map<String, Value>, ApiError> {
    let bytes = read(body, limits).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    require_json(headers)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(invalid("the body must be a JSON object")),
        Err(error) => Err(invalid(format!(
            "the body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        ))),
    }
}

async fn read(body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    let too_large = ApiError::TooLarge {
        limit: MAX_BODY_BYTES,
    };
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large);
    }
    match tokio::time::timeout(limits.body_read, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large),
        Ok(Err(_)) => Err(invalid("the body broke off")),
        Err(_) => Err(invalid("the body did not arrive in time")),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    match media_type {
        Some(media_type) if media_type.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(invalid("the Content-Type must be application/json")),
    }
}

/// Refuses fields other than `known`, by name.
pub(crate) fn refuse_unknown(fields: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let key: String = key.chars().take(MAX_ECHO_CHARS).collect();
            let known = known
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ");
            Err(invalid(format!(
                "unknown field `{}`; known: {known}",
                key.escape_debug()
            )))
        }
    }
}

/// A 400 with this message.
pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::InvalidRequest(message.into())
}
