use crate::serve::body::{invalid, read_object, refuse_unknown, whole_number};
use crate::serve::error::ApiError;
use axum::body::Bytes;
use axum::http::HeaderMap;
use serde_json::{Map, Value};

const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;

/// What the caller asks for. Who they are is the token's matter alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) limit: usize,
    pub(super) exclude_liked: bool,
}

impl Query {
    pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, ApiError> {
        Self::parse(&read_object(headers, body)?)
    }

    fn parse(fields: &Map<String, Value>) -> Result<Self, ApiError> {
        refuse_unknown(fields, &["limit", "exclude_liked"])?;
        let limit = match fields.get("limit") {
            None => DEFAULT_LIMIT,
            Some(value) => whole_number(value)
                .filter(|limit| (1..=MAX_LIMIT as u64).contains(limit))
                .ok_or_else(|| invalid("`limit` must be a whole number from 1 to 100"))?
                as usize,
        };
        let exclude_liked = match fields.get("exclude_liked") {
            None => true,
            Some(value) => value
                .as_bool()
                .ok_or_else(|| invalid("`exclude_liked` must be true or false"))?,
        };
        Ok(Self {
            limit,
            exclude_liked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<Query, String> {
        Query::parse(body.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_fields_are_optional() {
        let query = |limit, exclude_liked| {
            Ok(Query {
                limit,
                exclude_liked,
            })
        };
        assert_eq!(parse(&json!({})), query(10, true));
        assert_eq!(
            parse(&json!({"limit": 100, "exclude_liked": false})),
            query(100, false)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for limit in [
            json!(0),
            json!(-1),
            json!(101),
            json!(1e9),
            json!(1.5),
            json!("10"),
            json!(null),
            json!([1]),
        ] {
            let error = parse(&json!({ "limit": limit })).unwrap_err();
            assert!(error.contains("`limit`"), "{limit}: {error}");
        }
        let error = parse(&json!({"exclude_liked": "yes"})).unwrap_err();
        assert!(error.contains("`exclude_liked`"));
        let error = parse(&json!({"user_id": "x"})).unwrap_err();
        assert!(error.contains("unknown field `user_id`"));
        let long = "\u{202e}\0".repeat(500);
        let error = parse(&json!({ long: 1 })).unwrap_err();
        assert!(error.len() < 500 && !error.contains('\0') && !error.contains('\u{202e}'));
    }
}
