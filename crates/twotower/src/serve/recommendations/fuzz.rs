use super::query::Query;
use super::{batch, similar};
use crate::fuzz::{MANY, corpus, fuzz};
use crate::serve::body::MAX_EXACT;
use crate::serve::error::ApiError;
use crate::serve::fuzz::read_body;
use serde_json::{Map, Value};

/// Asserts that all values of a query are in their ranges. Returns the branch that it took.
fn in_range(query: &Query) -> u64 {
    assert!((1..=100).contains(&query.limit), "{query:?}");
    assert!((0.0..=1.0).contains(&query.diversity), "{query:?}");
    assert!(query.min_score.is_none_or(|score| score.abs() <= 1.0));
    assert!(query.seed.is_none_or(|seed| seed as f64 <= MAX_EXACT));
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
    assert_eq!(query, &query.clone(), "or no answer to it is found again");
    u64::from(query.exclude_liked) + 2 * u64::from(query.include_reasons)
}

/// Reads a request with the additional field `own`, and asserts that the request without it parses
/// to the same query.
fn with_own_field<T>(
    fields: &Map<String, Value>,
    own: &str,
    read: impl Fn(&Map<String, Value>) -> Result<(Query, T), ApiError>,
) -> Result<(Query, T), ApiError> {
    let request = read(fields)?;
    let mut others = fields.clone();
    others.remove(own).expect("it is required");
    assert_eq!(Query::parse(&others)?, request.0);
    Ok(request)
}

#[test]
fn fuzz_the_body_of_a_request() {
    fuzz(
        "request",
        MANY,
        corpus("request"),
        |input| match read_body(input, Query::parse) {
            Ok(query) => in_range(&query),
            Err(way) => way,
        },
    );
}

#[test]
fn fuzz_the_body_of_a_batch() {
    fuzz("batch", MANY, corpus("batch"), |input| {
        let read = |fields: &Map<String, Value>| with_own_field(fields, "user_ids", batch::read);
        match read_body(input, read) {
            Ok((query, users)) => {
                assert!((1..=100).contains(&users.len()), "{users:?}");
                in_range(&query) + 4 * u64::from(users.len() > 1)
            }
            Err(way) => way,
        }
    });
}

#[test]
fn fuzz_the_body_of_similar_videos() {
    fuzz("similar", MANY, corpus("similar"), |input| {
        let read = |fields: &Map<String, Value>| with_own_field(fields, "video_id", similar::read);
        match read_body(input, read) {
            Ok((query, _)) => {
                let drawn = query.seed.is_some() || query.include_reasons;
                assert!(!drawn, "what would change nothing is refused: {query:?}");
                in_range(&query)
            }
            Err(way) => way,
        }
    });
}
