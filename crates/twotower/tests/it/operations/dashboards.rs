//! Monitoring: rules, their tests and the dashboard use only metrics that the server exports, and
//! the runbook covers every alert.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use twotower::operations::check;
use twotower::serve;

/// Metrics of Prometheus itself and of database exporters, with the labels that are used.
const FOREIGN: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("node_cpu_seconds_total", &["mode", "cpu"]),
    ("pg_stat_database_numbackends", &["datname"]),
    ("pg_stat_database_num_backends", &["datname"]),
];

/// Labels that Prometheus adds.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// Words of `PromQL` without parentheses.
const WORDS: [&str; 9] = [
    "by", "without", "on", "ignoring", "and", "or", "unless", "bool", "offset",
];

/// Words that are followed by a list of labels.
const GROUPING: [&str; 4] = ["by", "without", "on", "ignoring"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A metric in an expression, and the labels in its braces.
type Selector = (String, Vec<String>);

/// The metrics and labels that an expression names.
fn named(expression: &str) -> (Vec<Selector>, Vec<String>) {
    let (mut selectors, mut labels): (Vec<Selector>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = expression;
    let mut last_word = "";
    while let Some(character) = rest.chars().next() {
        let word_end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        if character == '"' || character == '\'' {
            let end = rest[1..].find(character).expect("a string ends") + 2;
            rest = &rest[end..];
        } else if character == '{' || (character == '(' && GROUPING.contains(&last_word)) {
            let close = if character == '{' { '}' } else { ')' };
            let end = rest.find(close).expect("a list of labels ends");
            let names = rest[1..end].split(',').map(|part| {
                let name = part.split(['=', '!']).next().unwrap_or_default();
                name.trim().to_owned()
            });
            let names = names.filter(|name| !name.is_empty() && !name.contains('"'));
            if character == '{' && selectors.last().is_some_and(|(name, _)| name == last_word) {
                selectors.last_mut().unwrap().1.extend(names);
            } else {
                labels.extend(names);
            }
            rest = &rest[end + 1..];
            last_word = "";
        } else if character.is_ascii_digit() {
            rest = &rest[word_end..];
        } else if word_end > 0 {
            let (word, after) = rest.split_at(word_end);
            let function = after.trim_start().starts_with('(');
            if !WORDS.contains(&word) && !function {
                selectors.push((word.to_owned(), Vec::new()));
            }
            // `sum by (…) (…)`: the word before `by` is not a metric.
            let before_grouping = GROUPING.iter().any(|it| {
                let after = after.trim_start().strip_prefix(it);
                after.is_some_and(|after| after.trim_start().starts_with('('))
            });
            if before_grouping && !WORDS.contains(&word) {
                selectors.pop();
            }
            last_word = word;
            rest = after;
        } else {
            if !character.is_whitespace() {
                last_word = "";
            }
            rest = &rest[character.len_utf8()..];
        }
    }
    (selectors, labels)
}

/// Labels of a metric, or of one of a histogram's series; `None` if it is not exported.
fn labels_of(name: &str) -> Option<Vec<&'static str>> {
    for (foreign, labels) in FOREIGN {
        if *foreign == name {
            return Some(labels.to_vec());
        }
    }
    serve::CATALOGUE.iter().find_map(|metric| {
        let end = name.strip_prefix(metric.name)?;
        let histogram = metric.kind == serve::Kind::Histogram;
        let known = match end {
            "" => !histogram,
            "_bucket" | "_sum" | "_count" => histogram,
            _ => false,
        };
        let bound = (end == "_bucket").then_some("le");
        known.then(|| metric.labels.iter().copied().chain(bound).collect())
    })
}

/// Errors in an expression.
fn problems(place: &str, expression: &str) -> Vec<String> {
    let (selectors, grouped) = named(expression);
    let mut known: BTreeSet<&str> = SCRAPED.into();
    let mut problems = Vec::new();
    for (name, labels) in &selectors {
        let Some(own) = labels_of(name) else {
            problems.push(format!("{place}: nobody tells `{name}`"));
            continue;
        };
        for label in labels {
            if !own.contains(&label.as_str()) && !SCRAPED.contains(&label.as_str()) {
                problems.push(format!("{place}: `{name}` has no label `{label}`"));
            }
        }
        known.extend(own);
    }
    for label in grouped {
        if !known.contains(label.as_str()) {
            problems.push(format!("{place}: no metric here has a label `{label}`"));
        }
    }
    problems
}

/// The values of `key:` in one of our YAML files: on the line, or as a block below it.
fn values(yaml: &str, key: &str) -> Vec<String> {
    let lines: Vec<&str> = yaml.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let content = line.trim_start().trim_start_matches("- ");
        let Some(value) = content
            .strip_prefix(key)
            .and_then(|it| it.strip_prefix(": "))
        else {
            continue;
        };
        if value == "|" {
            let below = lines[n + 1..].iter().copied();
            let block: Vec<&str> = below.take_while(|it| indent(it) > indent(line)).collect();
            found.push(block.join("\n"));
        } else {
            found.push(value.trim_matches('"').to_owned());
        }
    }
    found
}

fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    _ => strings(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|it| strings(it, key, found)),
        _ => {}
    }
}

#[test]
fn rules_and_dashboard_name_what_is_told() {
    let rules = read("deploy/prometheus/alerts.yml");
    let mut expressions: Vec<(&str, String)> = values(&rules, "expr")
        .into_iter()
        .map(|it| ("alerts.yml", it))
        .collect();
    for place in ["alerts.test.yml", "alerts.week.test.yml"] {
        let rule_tests = read(&format!("deploy/prometheus/{place}"));
        expressions.extend(
            values(&rule_tests, "series")
                .into_iter()
                .map(|it| (place, it)),
        );
    }
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/twotower.json")).unwrap();
    let (mut queries, mut variables) = (Vec::new(), Vec::new());
    strings(&dashboard, "expr", &mut queries);
    strings(&dashboard, "definition", &mut variables);
    assert!(
        variables
            .iter()
            .all(|it| it.starts_with("label_values(up{")),
        "{variables:?}"
    );
    expressions.extend(queries.iter().map(|it| ("twotower.json", (*it).to_owned())));
    assert!(expressions.len() > 100, "{}", expressions.len());
    let problems: Vec<_> = expressions
        .iter()
        .flat_map(|(place, expression)| problems(place, expression))
        .collect();
    assert_eq!(problems, Vec::<String>::new());

    let shown: BTreeSet<String> = queries
        .iter()
        .flat_map(|it| named(it).0)
        .map(|(name, _)| name)
        .collect();
    for metric in serve::CATALOGUE {
        let in_it = shown.iter().any(|name| name.starts_with(metric.name));
        assert!(in_it, "no panel shows {}", metric.name);
    }
}

#[test]
fn what_nobody_tells_is_noticed() {
    for (expression, expected) in [
        (
            "twotower_recal_probe < 0.9",
            "nobody tells `twotower_recal_probe`",
        ),
        (
            "sum by (root) (twotower_recall_probe)",
            "no metric here has a label `root`",
        ),
        (
            "rate(twotower_http_requests_shed_total{resaon=\"x\"}[5m]) > 1",
            "has no label `resaon`",
        ),
        ("twotower_http_request_duration_seconds > 1", "nobody tells"),
    ] {
        let found = problems("x", expression);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
    let fine = "1 - sum by (route) (rate(twotower_http_request_duration_seconds_bucket{le=\"0.2\",job=~\"a|b\"}[5m])) / on (route) up > 36 * 3600";
    assert_eq!(problems("x", fine), Vec::<String>::new());
}

#[test]
fn every_rule_is_tested_and_every_alert_is_in_the_runbook() {
    let rules = read("deploy/prometheus/alerts.yml");
    let rule_tests = read("deploy/prometheus/alerts.test.yml");
    let runbook = read("docs/runbook.md");
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let names = values(&rules, "alert");
    let (severities, links) = (values(&rules, "severity"), values(&rules, "runbook"));
    assert!(names.len() >= 20 && names.len() == severities.len() && names.len() == links.len());
    let mut expected = BTreeSet::new();
    for (name, link) in names.iter().zip(&links) {
        assert_eq!(*link, format!("docs/runbook.md#{}", name.to_lowercase()));
        let fires = format!("alertname: {name}\n        exp_alerts:");
        assert!(rule_tests.contains(&fires), "no test has {name} fire");
        expected.insert(name.as_str());
    }
    let watched = check::CATALOGUE.iter().filter(|it| it.watched.is_some());
    expected.extend(watched.map(|check| check.name));
    assert_eq!(
        sections, expected,
        "sections of docs/runbook.md, and the alerts there are"
    );
}
