use maud::{Markup, html};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Key that names a group in a list, and so its row.
const NAME: &str = "name";

/// Deeper levels are not shown.
const MAX_DEPTH: u8 = 4;

/// Shows whatever metrics the trainer wrote: single values as a table, groups with the same
/// structure as one table with a column each, other groups under their own headings.
pub(super) fn render(metrics: &Value) -> Markup {
    match metrics {
        Value::Object(fields) if !fields.is_empty() => group(fields, 0),
        _ => html! { p.muted { "The trainer has recorded none." } },
    }
}

fn group(fields: &Map<String, Value>, depth: u8) -> Markup {
    if let Some(rows) = rows_of_one_table(fields) {
        return matrix(&rows);
    }
    let single: Vec<_> = fields
        .iter()
        .filter(|(_, value)| is_single(value))
        .collect();
    let groups = fields
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_object()?)));
    let lists = fields
        .iter()
        .filter_map(|(name, value)| Some((name, rows_of_a_list(value)?)));
    html! {
        @if !single.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="Metrics" { table { tbody {
                @for (name, value) in single {
                    tr { th scope="row" { (title(name)) } td { (text(value)) } }
                }
            } } }
        }
        @if depth < MAX_DEPTH {
            @for (name, rows) in lists {
                h3 { (title(name)) }
                (matrix(&rows))
            }
            @for (name, fields) in groups {
                @if !fields.is_empty() {
                    h3 { (title(name)) }
                    (group(fields, depth + 1))
                }
            }
        }
    }
}

/// The groups, if there are at least two and each holds only single values.
fn rows_of_one_table(fields: &Map<String, Value>) -> Option<Vec<(&str, &Map<String, Value>)>> {
    let rows: Vec<_> = fields
        .iter()
        .map(|(name, value)| {
            let row = value.as_object()?;
            row.values().all(is_single).then_some((name.as_str(), row))
        })
        .collect::<Option<_>>()?;
    (rows.len() > 1).then_some(rows)
}

/// The groups of a list, if each has a name and holds only single values, such as cohorts of users.
fn rows_of_a_list(value: &Value) -> Option<Vec<(&str, &Map<String, Value>)>> {
    let rows = value.as_array()?.iter().map(|value| {
        let row = value.as_object()?;
        let name = row.get(NAME)?.as_str()?;
        row.values().all(is_single).then_some((name, row))
    });
    let rows: Vec<_> = rows.collect::<Option<_>>()?;
    (!rows.is_empty()).then_some(rows)
}

fn matrix(rows: &[(&str, &Map<String, Value>)]) -> Markup {
    let columns = rows.iter().flat_map(|(_, row)| row.keys());
    let columns: BTreeSet<&String> = columns.filter(|column| *column != NAME).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Metrics" { table {
            thead { tr { td {} @for column in &columns { th scope="col" { (title(column)) } } } }
            tbody {
                @for (name, row) in rows {
                    tr {
                        th scope="row" { (title(name)) }
                        @for column in &columns {
                            td { (row.get(*column).map_or("–".into(), text)) }
                        }
                    }
                }
            }
        } }
    }
}

/// Neither a group nor a list of groups.
fn is_single(value: &Value) -> bool {
    let mut values = value.as_array().into_iter().flatten();
    !value.is_object() && !values.any(Value::is_object)
}

/// `ndcg_at_10` → `NDCG@10`, `two-tower` → `two-tower`, `cut_off` → `cut off`
pub(super) fn title(name: &str) -> String {
    let spaced = name.replace("_at_", "@").replace('_', " ");
    spaced
        .split(' ')
        .map(|word| {
            let stem = word.split('@').next().unwrap_or_default();
            if matches!(stem, "ndcg" | "auc" | "mrr" | "hr" | "map" | "llo" | "id") {
                word.to_uppercase()
            } else {
                word.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(x)) => decimal(x),
            (None, None) => number.to_string(),
        },
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => format!("{} values", fields.len()),
    }
}

/// Four significant digits: `0.09131`, `12.35`, `1235`.
pub(super) fn decimal(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    let before_the_point = x.abs().log10().floor() as i32 + 1;
    let decimals = (4 - before_the_point).clamp(0, 8) as usize;
    format!("{x:.decimals$}")
}

/// `1234567` → `1 234 567`, with narrow no-break spaces.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_numbers() {
        assert_eq!(title("ndcg_at_10"), "NDCG@10");
        assert_eq!(title("best_epoch"), "best epoch");
        assert_eq!(decimal(0.091_312), "0.09131");
        assert_eq!(decimal(-12.345_6), "-12.35");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
    }

    /// The form in which training writes metrics of cohorts.
    #[test]
    fn cohorts_are_a_table() {
        let metrics = json!({ "best_epoch": 3, "cohorts": [
            { "name": "all", "users": 327, "auc": 0.75 },
            { "name": "1 to 4 likes", "users": 20, "auc": 0.6 },
        ]});
        let html = render(&metrics).into_string();
        for part in [
            "<h3>cohorts</h3>",
            "<th scope=\"row\">1 to 4 likes</th>",
            "<td>327</td>",
            "<td>0.7500</td>",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(
            !html.contains("values") && !html.contains(">name<"),
            "{html}"
        );
    }

    #[test]
    fn any_shape_is_shown() {
        let html = |value: &Value| render(value).into_string();
        assert!(html(&json!(null)).contains("none"));
        let nested = json!({"epoch": 3, "test": {"two-tower": {"auc": 0.9}, "popular": {"auc": 0.5, "mrr": null}}});
        let html = html(&nested);
        for part in ["epoch", "<h3>test</h3>", "two-tower", "0.9000", "MRR", "–"] {
            assert!(html.contains(part), "{part}: {html}");
        }
        let evil = render(&json!({"<script>": "<b>"})).into_string();
        assert!(!evil.contains("<script>") && !evil.contains("<b>"));
    }
}
