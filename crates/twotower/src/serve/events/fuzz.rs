use super::batch;
use crate::serve::body::read_object;
use crate::serve::fuzz::{corpus, fuzz, way};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn heavy_fuzz_the_body_of_events() {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    // 2026-11-26, so that times in the examples are neither too old nor in the future.
    let now = UNIX_EPOCH + Duration::from_hours(1_795_694_400 / 3600);
    fuzz("events", corpus("events"), |input| {
        let fields = read_object(&headers, &Bytes::copy_from_slice(input));
        match fields.and_then(|fields| batch::read(&fields, now)) {
            Ok(events) => {
                assert!((1..=100).contains(&events.len()), "{events:?}");
                for event in &events {
                    let watched = event.watch_fraction.unwrap_or_default();
                    assert!((0.0..=1.0).contains(&watched), "{event:?}");
                    assert!(event.model_version.is_none_or(|version| version > 0));
                }
                events.len() as u64
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
