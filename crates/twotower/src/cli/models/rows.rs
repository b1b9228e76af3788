//! Formats any JSON value as rows of names and values.

use serde_json::Value;

/// `heading`, and a row for each value, with the names of nested fields joined by points. Empty
/// without values.
pub(super) fn table(heading: &str, value: &Value, number: fn(f64) -> String) -> Vec<String> {
    let mut rows = Vec::new();
    flatten("", value, number, &mut rows);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let lines = rows
        .into_iter()
        .map(|(name, value)| format!("  {name:width$}  {value}"));
    let heading = Some(heading.to_owned()).filter(|_| width > 0);
    heading.into_iter().chain(lines).collect()
}

fn flatten(name: &str, value: &Value, number: fn(f64) -> String, rows: &mut Vec<(String, String)>) {
    let inner = |key: &str| {
        if name.is_empty() {
            key.to_owned()
        } else {
            format!("{name}.{key}")
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&inner(key), value, number, rows);
            }
        }
        // Each object is a row under its name, as for cohorts of users.
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (n, value) in values.iter().enumerate() {
                let key = value["name"].as_str().map_or(n.to_string(), str::to_owned);
                rows.push((inner(&key), in_a_line(value, number)));
            }
        }
        value => rows.push((name.to_owned(), in_a_line(value, number))),
    }
}

fn in_a_line(value: &Value, number: fn(f64) -> String) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(whole) if !whole.is_f64() => whole.to_string(),
        Value::Number(x) => x.as_f64().map_or_else(|| x.to_string(), number),
        Value::Bool(yes) => yes.to_string(),
        Value::Array(values) => joined(values.iter().map(|it| in_a_line(it, number)).collect()),
        Value::Object(fields) => joined(
            fields
                .iter()
                .filter(|(key, _)| *key != "name")
                .map(|(key, value)| format!("{key} {}", in_a_line(value, number)))
                .collect(),
        ),
    }
}

/// Format of all metrics.
pub(super) fn figure(x: f64) -> String {
    format!("{x:.4}")
}

/// Format as in a configuration file: the shortest decimal that parses to the same float32, if the
/// value is one.
pub(super) fn setting(x: f64) -> String {
    let single = x as f32;
    if f64::from(single).total_cmp(&x).is_eq() {
        single.to_string()
    } else {
        x.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_shown_as_they_were_set() {
        let hyperparameters = json!({
            "batch_size": 512,
            "momentum": f64::from(0.8_f32),
            "learning_rate": 0.003,
            "selection": "ndcg_at_10",
            "sizes": [64, 128],
        });
        let rows = table("hyperparameters", &hyperparameters, setting);
        let expected = [
            "hyperparameters",
            "  batch_size     512",
            "  learning_rate  0.003",
            "  momentum       0.8",
            "  selection      ndcg_at_10",
            "  sizes          64, 128",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn metrics_have_a_row_each_and_cohorts_their_name() {
        let metrics = json!({
            "best_epoch": 12,
            "cohorts": [
                { "name": "all", "users": 327, "auc": 0.75, "ndcg_at_10": 0.060_912_3 },
                { "auc": null },
            ],
            "validation": { "ndcg_at_10": 0.0711 },
        });
        let expected = [
            "metrics",
            "  best_epoch             12",
            "  cohorts.all            auc 0.7500, ndcg_at_10 0.0609, users 327",
            "  cohorts.1              auc -",
            "  validation.ndcg_at_10  0.0711",
        ];
        assert_eq!(table("metrics", &metrics, figure), expected);
        assert!(table("metrics", &json!({}), figure).is_empty());
    }
}
