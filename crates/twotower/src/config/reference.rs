//! Compares docs/configuration.md with the keys of `twotower.toml`: one row per key, with its
//! default, and no others.

use super::*;
use std::collections::BTreeMap;

/// Sections whose rows `tests/docs/check_docs.py` compares, since it reads the ranges beside them.
const ELSEWHERE: [&str; 1] = [HYPERPARAMETERS];

/// Key and default as documented, by section.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let reference = text
        .split("\n## twotower.toml\n")
        .nth(1)
        .expect("## twotower.toml");
    let sections = reference.split("\n### ").skip(1).map(|section| {
        let (name, body) = section.split_once('\n').unwrap();
        let rows = body
            .split("\n## ")
            .next()
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"));
        let mut keys = BTreeMap::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let names: Vec<&str> = cells[1].split(", ").collect();
            let defaults: Vec<&str> = if names.len() > 1 && cells[2].contains(", ") {
                cells[2].split(", ").collect()
            } else {
                vec![cells[2]; names.len()]
            };
            for (name, default) in names.into_iter().zip(defaults) {
                keys.insert(name.trim_matches('`').to_owned(), default.to_owned());
            }
        }
        (name.to_owned(), keys)
    });
    sections.collect()
}

/// The keys that `toml` expects in place of the unknown key in `text`.
fn expected_keys(text: &str) -> Vec<String> {
    let error = toml::from_str::<Config>(text).unwrap_err();
    let names = error.message().split('`').skip(1).step_by(2);
    names.skip(1).map(str::to_owned).collect()
}

#[test]
fn the_reference_lists_every_key_with_its_default() {
    let documented = documented();
    let mut sections = expected_keys("nobody = 1");
    sections.retain(|section| !ELSEWHERE.contains(&section.as_str()));
    let defaults = Config::default().sections().unwrap();
    for section in sections {
        let keys = expected_keys(&format!("[{section}]\nnobody = 1"));
        let rows = documented
            .get(&section)
            .unwrap_or_else(|| panic!("docs/configuration.md: no `### {section}`"));
        let mut known: Vec<&String> = keys.iter().collect();
        known.sort();
        let named: Vec<&String> = rows.keys().collect();
        assert_eq!(named, known, "docs/configuration.md, ### {section}");
        if section == "source" {
            // The second column of this section holds column names.
            continue;
        }
        for key in keys {
            let default = defaults[section.as_str()].get(&key);
            let says = &rows[&key];
            let agrees = match default {
                // The default is given in words, such as `none`.
                None | Some(toml::Value::Table(_)) => {
                    says.parse::<f64>().is_err() && says != "true" && says != "false"
                }
                Some(toml::Value::String(text)) if text.is_empty() => says == "none",
                Some(toml::Value::String(text)) => says == &format!("`{text}`"),
                Some(toml::Value::Array(list)) if list.is_empty() => {
                    says == "none" || says == "`[]`"
                }
                Some(value) => says.trim_matches('`') == value.to_string(),
            };
            assert!(
                agrees,
                "docs/configuration.md, ### {section}: `{key}` is {default:?} by default, and the table says {says}"
            );
        }
    }
}
