use super::query::Query;
use crate::serve::body::read_object;
use crate::serve::fuzz::{corpus, fuzz, way};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};

#[test]
fn heavy_fuzz_the_body_of_a_request() {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    fuzz("request", corpus("request"), |input| {
        let fields = read_object(&headers, &Bytes::copy_from_slice(input));
        match fields.and_then(|fields| Query::of_its_user(&fields)) {
            Ok(query) => {
                assert!((1..=100).contains(&query.limit), "{query:?}");
                assert!((0.0..=1.0).contains(&query.diversity), "{query:?}");
                assert!(query.min_score.is_none_or(|score| score.abs() <= 1.0));
                let only = &query.filter;
                for choice in [&only.tags, &only.makers, &only.performers, &only.genres] {
                    assert!(choice.any.len() <= 50 && choice.none.len() <= 50);
                }
                for range in [only.price, only.age_days] {
                    let bounds = [range.min, range.max].into_iter().flatten();
                    assert!(
                        bounds.map(f32::abs).all(|bound| bound <= 1.1e12),
                        "{query:?}"
                    );
                }
                assert_eq!(query, query.clone(), "or no answer to it is found again");
                u64::from(query.exclude_liked) + 2 * u64::from(query.include_reasons)
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
