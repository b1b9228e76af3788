//! Compares docs/doctor.md with the checks, and with the guide whose lists it must cover.

use std::collections::BTreeSet;
use twotower::operations::check::{CATALOGUE, Severity};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    std::fs::read_to_string(path).unwrap()
}

/// Rows of a section's table, by cells.
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

/// Checks every code span of the second table that has the form of a check's name.
#[test]
fn the_guides_lists_are_covered_by_what_there_is() {
    let names: BTreeSet<&str> = CATALOGUE.iter().map(|check| check.name).collect();
    let rows = rows("The deployment guide's lists");
    for cells in &rows {
        let spans: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!spans.is_empty(), "{} is covered by nothing", cells[0]);
        for span in spans {
            // Commands, files and settings contain other characters.
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
    // The guide's rows: metrics, both checklists, troubleshooting, benchmarks, information for
    // support.
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
        "training in 4 to 6 h",
        "a list < 200 ms",
        "1,000 users < 10 min",
        "memory: training < 8 GB",
        "memory: serving < 1 GB",
        "error logs",
        "system information",
        "database statistics",
        "API response time",
        "statistics of the training data",
    ];
    let covered: Vec<&str> = rows.iter().map(|cells| cells[0].as_str()).collect();
    assert_eq!(covered, guide);
}

/// A line of the checklists names checks that do look at what it says, and no others.
#[test]
fn the_checklists_name_checks_that_look_at_what_they_say() {
    let expected: [(&str, &[&str]); 12] = [
        ("`make test`", &[]),
        ("100,000 likes", &["data-sufficiency"]),
        ("AUC > 0.65", &["model-quality"]),
        (
            "schema",
            &["migrations", "indexes", "row-security", "policies"],
        ),
        ("`/readyz`", &["server-ready", "edge-function"]),
        ("environment", &["environment", "secrets-readable"]),
        ("the application's database", &[]),
        ("twotower's own backup", &["backup-age"]),
        ("answers in < 200 ms", &["server-latency", "server-errors"]),
        ("the nightly log", &["run-failed", "run-missed"]),
        ("logs are written", &["logs"]),
        ("the alert arrives", &[]),
    ];
    let names: BTreeSet<&str> = CATALOGUE.iter().map(|check| check.name).collect();
    let checks = |file: &str| -> Vec<(String, Vec<String>)> {
        let path = format!("{}/../../docs/{file}", env!("CARGO_MANIFEST_DIR"));
        let guide = std::fs::read_to_string(path).unwrap();
        let lines = guide.lines().filter_map(|line| line.strip_prefix("- [ ] "));
        lines
            .map(|line| {
                let spans = line.split('`').skip(1).step_by(2);
                let named = spans.filter(|span| names.contains(span));
                (line.to_owned(), named.map(str::to_owned).collect())
            })
            .collect()
    };
    let (english, japanese) = (checks("deployment.md"), checks("deployment.ja.md"));
    assert_eq!(english.len(), expected.len());
    for (line, (begins, named)) in english.iter().zip(expected) {
        assert!(line.0.contains(begins), "{}", line.0);
        assert_eq!(line.1, named, "{}", line.0);
    }
    let of = |lines: &[(String, Vec<String>)]| -> Vec<Vec<String>> {
        lines.iter().map(|(_, named)| named.clone()).collect()
    };
    assert_eq!(of(&japanese), of(&english));
}
