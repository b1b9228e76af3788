use super::error::ApiError;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use std::time::Duration;

/// Largest body. The largest in use are lists of a hundred events.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Most characters of a request that an answer repeats.
const MAX_ECHO_CHARS: usize = 40;

/// Bytes read of a body that is too large before its answer is sent: most clients read nothing
/// before they have sent everything. The rest of a larger body is read after the answer
/// ([`super::connection`]).
const MAX_DISCARDED_BYTES: usize = 1024 * 1024;

/// Reads a request's body before anything else: an answer to a request whose body has not arrived
/// closes the connection, and with it the next request on it.
pub(super) async fn collect(request: Request, limit: Duration) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = tokio::time::timeout(limit, read(body))
        .await
        .unwrap_or_else(|_| Err(invalid("the body did not arrive in time")))?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn read(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| invalid("the body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len();
        if seen <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if seen > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if seen > MAX_BODY_BYTES {
        return Err(ApiError::TooLarge {
            limit: MAX_BODY_BYTES,
        });
    }
    Ok(kept)
}

/// Marks an answer to a request whose body was not read to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyUnread;

/// Marks `response` with [`BodyUnread`]. The connection ends with it.
pub(super) fn unread(mut response: Response) -> Response {
    response.extensions_mut().insert(BodyUnread);
    closing(response)
}

/// Adds the header which says that the connection ends with this answer.
pub(super) fn closing(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The fields of a request whose body is one JSON object, read by [`read_object`].
#[derive(Debug)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // [`collect`] has read it and limited its size.
        let body = to_bytes(body, MAX_BODY_BYTES).await;
        let body = body.map_err(ApiError::internal)?;
        read_object(&parts.headers, &body).map(Self)
    }
}

/// Reads a body that is one JSON object; an empty body is an empty object.
pub(crate) fn read_object(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    require_json(headers)?;
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(invalid("the body must be a JSON object")),
        Err(error) => Err(invalid(format!(
            "the body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        ))),
    }
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

/// Largest number up to which 64-bit floats, the numbers of JavaScript, represent every whole
/// number.
pub(crate) const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

/// A whole number in any notation: in JSON Schema, and so in the contract, 10.0 is a whole number.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    let rounded = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(number));
    value.as_u64().or(rounded.map(|number| number as u64))
}

/// Refuses fields other than `known`, by name.
pub(crate) fn refuse_unknown(fields: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    refuse_unknown_in(fields, known, "")
}

/// [`refuse_unknown`] inside a field. `place` is the prefix of names, for example `filter.`.
pub(crate) fn refuse_unknown_in(
    fields: &Map<String, Value>,
    known: &[&str],
    place: &str,
) -> Result<(), ApiError> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let known = known
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ");
            Err(invalid(format!(
                "unknown field `{place}{}`; known: {known}",
                echo(key)
            )))
        }
    }
}

/// The beginning of a piece of a request, escaped so that an answer can repeat it.
pub(super) fn echo(text: &str) -> String {
    let begin: String = text.chars().take(MAX_ECHO_CHARS).collect();
    begin.escape_debug().to_string()
}

/// A 400 with this message.
pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::InvalidRequest(message.into())
}
