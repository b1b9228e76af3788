//! The field `filter`.

use crate::config::{Choice, Conditions, Range};
use crate::serve::body::{invalid, refuse_unknown_in};
use crate::serve::error::ApiError;
use serde_json::{Map, Value};

/// At most this many names in one list.
const MAX_NAMES: usize = 50;

/// At most this many characters in a name.
const MAX_NAME_CHARS: usize = 100;

pub(super) fn parse(value: &Value) -> Result<Conditions, ApiError> {
    let fields = object(value, "filter")?;
    let known = [
        "tags",
        "makers",
        "performers",
        "genres",
        "price",
        "age_days",
    ];
    refuse_unknown_in(fields, &known, "filter.")?;
    let choice = |name| {
        fields
            .get(name)
            .map_or(Ok(Choice::default()), |value| choice(value, name))
    };
    let range = |name| {
        fields
            .get(name)
            .map_or(Ok(Range::default()), |value| range(value, name))
    };
    Ok(Conditions {
        tags: choice("tags")?,
        makers: choice("makers")?,
        performers: choice("performers")?,
        genres: choice("genres")?,
        price: range("price")?,
        age_days: range("age_days")?,
    })
}

fn choice(value: &Value, name: &str) -> Result<Choice, ApiError> {
    let fields = object(value, &format!("filter.{name}"))?;
    refuse_unknown_in(fields, &["any", "none"], &format!("filter.{name}."))?;
    let names = |list: &str| match fields.get(list) {
        None => Ok(Vec::new()),
        Some(value) => names(value, &format!("filter.{name}.{list}")),
    };
    Ok(Choice {
        any: names("any")?,
        none: names("none")?,
    })
}

fn names(value: &Value, place: &str) -> Result<Vec<String>, ApiError> {
    let wrong = || {
        invalid(format!(
            "`{place}` must be a list of at most {MAX_NAMES} texts of 1 to {MAX_NAME_CHARS} characters"
        ))
    };
    let list = value
        .as_array()
        .filter(|list| list.len() <= MAX_NAMES)
        .ok_or_else(wrong)?;
    list.iter()
        .map(|name| {
            name.as_str()
                .filter(|name| !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS)
                .map(str::to_owned)
                .ok_or_else(wrong)
        })
        .collect()
}

fn range(value: &Value, name: &str) -> Result<Range, ApiError> {
    let place = format!("filter.{name}");
    let fields = object(value, &place)?;
    refuse_unknown_in(fields, &["min", "max"], &format!("{place}."))?;
    let bound = |end: &str| match fields.get(end) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .filter(|bound| bound.abs() <= 1e12)
            .map(|bound| Some(bound as f32))
            .ok_or_else(|| invalid(format!("`{place}.{end}` must be a number"))),
    };
    Ok(Range {
        min: bound("min")?,
        max: bound("max")?,
    })
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, ApiError> {
    value
        .as_object()
        .ok_or_else(|| invalid(format!("`{place}` must be a JSON object")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (filter, part) in [
            (json!([]), "`filter` must be"),
            (json!({"tag": {}}), "unknown field `filter.tag`"),
            (json!({"tags": []}), "`filter.tags` must be"),
            (
                json!({"tags": {"all": []}}),
                "unknown field `filter.tags.all`",
            ),
            (json!({"tags": {"any": "a"}}), "`filter.tags.any` must be"),
            (json!({"makers": {"none": [1]}}), "`filter.makers.none`"),
            (json!({"makers": {"none": [""]}}), "`filter.makers.none`"),
            (
                json!({"genres": {"any": vec!["a"; 51]}}),
                "`filter.genres.any`",
            ),
            (
                json!({"performers": {"any": ["a".repeat(101)]}}),
                "`filter.performers.any`",
            ),
            (json!({"price": {"min": "1"}}), "`filter.price.min`"),
            (json!({"price": {"min": 1e300}}), "`filter.price.min`"),
            (
                json!({"age_days": {"at_most": 1}}),
                "unknown field `filter.age_days.at_most`",
            ),
        ] {
            let error = parse(&filter).unwrap_err().to_string();
            assert!(error.contains(part), "{filter}: {error}");
        }
    }
}
