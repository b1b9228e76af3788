use super::query::Query;
use crate::serve::fuzz::{corpus, fuzz, way};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};

#[test]
fn heavy_fuzz_the_body_of_a_request() {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    fuzz("request", corpus("request"), |input| {
        match Query::read(&headers, &Bytes::copy_from_slice(input)) {
            Ok(query) => {
                assert!((1..=100).contains(&query.limit), "{query:?}");
                u64::from(query.exclude_liked)
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 500, "{text}");
                assert!(!text.chars().any(char::is_control), "{text:?}");
                way(&text)
            }
        }
    });
}
