//! docs/doctor.md against the checks that there are, and against the guide whose lists it has to cover.

use std::collections::BTreeSet;
use twotower::operations::check::{CATALOGUE, Severity};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table of a section, cell by cell.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let document = document();
    let section = document
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no ## {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let cells = |line: &str| {
        line.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    section
        .lines()
        .filter(|line| {
            line.starts_with("| ")
                && !line.starts_with("| check |")
                && !line.starts_with("| guide |")
        })
        .map(cells)
        .collect()
}

#[test]
fn the_table_of_checks_is_the_catalogue() {
    let documented: Vec<(String, String, String)> = rows("Checks")
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone(), cells[3].clone()))
        .collect();
    let expected: Vec<_> = CATALOGUE
        .iter()
        .map(|check| {
            let watched = match check.watched {
                None => "",
                Some(Severity::Warning) => "warning",
                Some(Severity::Critical) => "critical",
            };
            (
                format!("`{}`", check.name),
                check.title.to_owned(),
                watched.to_owned(),
            )
        })
        .collect();
    assert_eq!(documented, expected);
}

/// Every code span of the second table that is written like a check's name is one.
#[test]
fn the_guides_lists_are_covered_by_what_there_is() {
    let names: BTreeSet<&str> = CATALOGUE.iter().map(|check| check.name).collect();
    let rows = rows("The deployment guide's lists");
    for cells in &rows {
        let spans: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!spans.is_empty(), "{} is covered by nothing", cells[0]);
        for span in spans {
            // Commands, files and settings have other characters in them.
            let name = span
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            assert!(
                !name || names.contains(span),
                "{}: there is no check `{span}`",
                cells[0]
            );
        }
    }
    // The guide's rows, in its order: metrics, both checklists, troubleshooting, what support asks for.
    let guide = [
        "AUC > 0.65",
        "Precision@10 > 0.15",
        "API < 200 ms",
        "batch < 30 min",
        "CPU < 80 %",
        "connections < 100",
        "Edge Functions < 128 MB",
        "API errors < 1 %",
        "tests pass",
        "data: 100,000 interactions",
        "model: AUC > 0.65",
        "Edge Functions work",
        "database indexes",
        "environment variables",
        "backup made",
        "API response < 200 ms",
        "error rate < 1 %",
        "batch works",
        "log output",
        "monitoring set up",
        "alerts work",
        "out of memory",
        "pgvector dimension",
        "Edge Functions timeout",
        "quality of recommendations",
        "batch failed",
        "error logs",
        "system information",
        "database statistics",
        "API response time",
        "statistics of the training data",
    ];
    let covered: Vec<&str> = rows.iter().map(|cells| cells[0].as_str()).collect();
    assert_eq!(covered, guide);
}
