mod conditions;

use crate::config::Conditions;
use crate::serve::body::{MAX_EXACT, invalid, refuse_unknown, whole_number};
use crate::serve::error::ApiError;
use serde_json::{Map, Value};

const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;

/// The fields of a request for the list of its user, in the order in which errors name them.
const FIELDS: [&str; 7] = [
    "limit",
    "exclude_liked",
    "diversity",
    "include_reasons",
    "min_score",
    "filter",
    "seed",
];

/// The list that the caller asks for, and the key by which a user's answers are kept. The user
/// comes from the token alone.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::serve) struct Query {
    /// Number of videos.
    pub(in crate::serve) limit: usize,
    /// Leave out videos that the user has ever liked.
    pub(in crate::serve) exclude_liked: bool,
    /// 0: best scores first; 1: as different from each other as possible.
    pub(in crate::serve) diversity: f32,
    /// Name the likes that each recommendation results from.
    pub(in crate::serve) include_reasons: bool,
    /// Leave out videos with a lower score.
    pub(in crate::serve) min_score: Option<f32>,
    /// Conditions that videos must meet.
    pub(in crate::serve) filter: Conditions,
    /// Seed of random draws, for the same result each time.
    pub(in crate::serve) seed: Option<u64>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            exclude_liked: true,
            diversity: 0.0,
            include_reasons: false,
            min_score: None,
            filter: Conditions::default(),
            seed: None,
        }
    }
}

impl Query {
    /// Reads the fields of a request for the list of its user.
    pub(in crate::serve) fn parse(fields: &Map<String, Value>) -> Result<Self, ApiError> {
        Self::parse_known(fields, &FIELDS)
    }

    /// Reads the fields of a request that also has the field `own`, and for which the fields
    /// `unused` of a query would have no effect.
    pub(in crate::serve) fn parse_beside(
        fields: &Map<String, Value>,
        own: &str,
        unused: &[&str],
    ) -> Result<Self, ApiError> {
        let used = FIELDS.into_iter().filter(|name| !unused.contains(name));
        let known: Vec<&str> = std::iter::once(own).chain(used).collect();
        Self::parse_known(fields, &known)
    }

    fn parse_known(fields: &Map<String, Value>, known: &[&str]) -> Result<Self, ApiError> {
        refuse_unknown(fields, known)?;
        let default = Self::default();
        Ok(Self {
            limit: match fields.get("limit") {
                None => default.limit,
                Some(value) => whole_number(value)
                    .filter(|limit| (1..=MAX_LIMIT as u64).contains(limit))
                    .ok_or_else(|| invalid("`limit` must be a whole number from 1 to 100"))?
                    as usize,
            },
            exclude_liked: boolean(fields, "exclude_liked", default.exclude_liked)?,
            diversity: number(fields, "diversity", 0.0..=1.0)?.unwrap_or(default.diversity),
            include_reasons: boolean(fields, "include_reasons", default.include_reasons)?,
            min_score: number(fields, "min_score", -1.0..=1.0)?,
            filter: match fields.get("filter") {
                None => default.filter,
                Some(value) => conditions::parse(value)?,
            },
            seed: match fields.get("seed") {
                None => None,
                Some(value) => Some(
                    whole_number(value)
                        .filter(|seed| *seed as f64 <= MAX_EXACT)
                        .ok_or_else(|| {
                            invalid("`seed` must be a whole number from 0 to 9007199254740991")
                        })?,
                ),
            },
        })
    }

    /// Whether a video with `score` may be in the list.
    pub(in crate::serve) fn admits_score(&self, score: f32) -> bool {
        self.min_score.is_none_or(|least| score >= least)
    }

    /// Approximate heap memory, bytes.
    pub(in crate::serve) fn bytes(&self) -> usize {
        let only = &self.filter;
        let choices = [&only.tags, &only.makers, &only.performers, &only.genres];
        let names = choices.map(|choice| choice.any.iter().chain(&choice.none));
        let bytes = |name: &String| size_of::<String>() + name.len();
        names.into_iter().flatten().map(bytes).sum()
    }
}

fn boolean(fields: &Map<String, Value>, name: &str, default: bool) -> Result<bool, ApiError> {
    match fields.get(name) {
        None => Ok(default),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| invalid(format!("`{name}` must be true or false"))),
    }
}

fn number(
    fields: &Map<String, Value>,
    name: &str,
    range: std::ops::RangeInclusive<f64>,
) -> Result<Option<f32>, ApiError> {
    match fields.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .filter(|number| range.contains(number))
            .map(|number| Some(number as f32))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                invalid(format!("`{name}` must be a number from {least} to {most}"))
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Choice, Range};
    use serde_json::json;

    fn parse(body: &Value) -> Result<Query, String> {
        Query::parse(body.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_is_optional() {
        assert_eq!(parse(&json!({})), Ok(Query::default()));
        let all = json!({
            "limit": 100, "exclude_liked": false, "diversity": 0.25, "include_reasons": true, "min_score": -0.5, "seed": 7,
            "filter": {"tags": {"any": ["朝"], "none": ["a", "b"]}, "price": {"max": 300}},
        });
        let expected = Query {
            limit: 100,
            exclude_liked: false,
            diversity: 0.25,
            include_reasons: true,
            min_score: Some(-0.5),
            filter: Conditions {
                tags: Choice {
                    any: vec!["朝".into()],
                    none: vec!["a".into(), "b".into()],
                },
                price: Range {
                    min: None,
                    max: Some(300.0),
                },
                ..Conditions::default()
            },
            seed: Some(7),
        };
        assert_eq!(parse(&all), Ok(expected.clone()));
        assert_eq!(Query::default().bytes(), 0);
        assert_eq!(expected.bytes(), 3 * size_of::<String>() + "朝ab".len());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |field: &str, values: &[Value]| {
            for value in values {
                let error = parse(&json!({ field: value })).unwrap_err();
                assert!(error.contains(&format!("`{field}`")), "{value}: {error}");
            }
        };
        wrong(
            "limit",
            &[
                json!(0),
                json!(-1),
                json!(101),
                json!(1e9),
                json!(1.5),
                json!("10"),
                json!(null),
                json!([1]),
            ],
        );
        wrong("exclude_liked", &[json!("yes"), json!(1), json!(null)]);
        wrong("include_reasons", &[json!("yes")]);
        wrong(
            "diversity",
            &[json!(-0.1), json!(1.1), json!(1e300), json!("0")],
        );
        wrong("min_score", &[json!(2), json!(null)]);
        wrong("seed", &[json!(-1), json!(1.5), json!("1"), json!(1e30)]);
        let error = parse(&json!({"user_id": "x"})).unwrap_err();
        assert!(error.contains("unknown field `user_id`"));
        let long = "\u{202e}\0".repeat(500);
        let error = parse(&json!({ long: 1 })).unwrap_err();
        assert!(error.len() < 500 && !error.contains('\0') && !error.contains('\u{202e}'));
    }
}
