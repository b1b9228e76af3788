//! Shared by the fuzz targets of request bodies.

use super::body::read_object;
use super::error::ApiError;
use crate::fuzz::refusal;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};
use std::fmt::Debug;

/// Reads a body. Returns the request, or the way in which it was refused. For one body in eight,
/// since it takes longer than everything else, asserts that serializing the parsed body and reading
/// it again gives the same request.
pub(in crate::serve) fn read_body<T: Debug + PartialEq>(
    body: &[u8],
    read: impl Fn(&Map<String, Value>) -> Result<T, ApiError>,
) -> Result<T, u64> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let object = |body: Bytes| read_object(&headers, &body);
    let refused = |error: ApiError| {
        // Every refusal must be the mistake of the client.
        assert!(matches!(error, ApiError::InvalidRequest(_)), "{error:?}");
        refusal(&error.to_string(), 500)
    };
    let fields = object(Bytes::copy_from_slice(body)).map_err(refused)?;
    let request = read(&fields).map_err(refused)?;
    if body.len().is_multiple_of(8) {
        let again = Bytes::from(Value::Object(fields).to_string());
        let again = object(again).and_then(|fields| read(&fields));
        assert_eq!(again.as_ref().ok(), Some(&request), "{again:?}");
    }
    Ok(request)
}
