//! `twotower doctor`.

use super::args::GlobalArgs;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use crate::operations::check::{CATALOGUE, Finding, Scope, Verdict, examine, examine_named};
use crate::operations::{bundle, check};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Arguments of `twotower doctor`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Run only this check; repeatable, or several with commas between. docs/doctor.md lists the names
    #[arg(long, value_name = "NAME", value_delimiter = ',', hide_possible_values = true, value_parser = PossibleValuesParser::new(CATALOGUE.iter().map(|check| check.name)))]
    pub(crate) only: Vec<String>,

    /// Also write a support archive into this new file, a .tar.gz without personal data and secrets
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
}

/// Runs the checks, prints the findings, and fails if a check failed.
pub(super) async fn run(
    args: &DoctorArgs,
    config: &Config,
    global: &GlobalArgs,
    _interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let place = global.place(config);
    let found = if args.only.is_empty() {
        examine(&place, Scope::All).await
    } else {
        let asked = |check: &&check::Check| args.only.iter().any(|name| name == check.name);
        let names: Vec<_> = CATALOGUE
            .iter()
            .filter(asked)
            .map(|check| check.name)
            .collect();
        examine_named(&place, &names).await
    };
    let mut text = describe(&found);
    if let Some(file) = &args.bundle {
        bundle::write(&place, &found, file).await?;
        let _ = write!(
            text,
            "\n\nwritten: {}; read it before you send it",
            file.display()
        );
    }
    let count = |verdict| {
        found
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let failed = count(Verdict::Failed);
    let value = json!({
        "failed": failed,
        "warned": count(Verdict::Warned),
        "skipped": count(Verdict::Skipped),
        "passed": count(Verdict::Passed),
        "findings": found,
        "bundle": args.bundle,
    });
    print(global.json, &value, &text)?;
    anyhow::ensure!(
        failed == 0,
        "{failed} of {} things looked at are wrong: {}",
        found.len(),
        failures(&found)
    );
    Ok(())
}

fn failures(found: &[Finding]) -> String {
    let failed = found
        .iter()
        .filter(|finding| finding.verdict == Verdict::Failed);
    let names: Vec<String> = failed.map(name).collect();
    names.join(", ")
}

fn name(finding: &Finding) -> String {
    let subject = finding.subject.as_ref();
    subject.map_or(finding.check.to_owned(), |subject| {
        format!("{} {subject}", finding.check)
    })
}

/// At most this many checks that were skipped for the same reason are listed by name.
const FEW: usize = 3;

/// Whether two consecutive findings share a line: they were skipped for the same reason.
fn is_skipped_alike(one: &Finding, other: &Finding) -> bool {
    let topic = |finding: &Finding| {
        let own = CATALOGUE.iter().find(|check| check.name == finding.check);
        own.map(|check| check.topic)
    };
    [one.verdict, other.verdict] == [Verdict::Skipped; 2]
        && (&one.evidence, &one.fix) == (&other.evidence, &other.fix)
        && topic(one) == topic(other)
}

/// A paragraph for each topic. Below each finding that is not well stands its fix, unless the
/// previous finding had the same one.
fn describe(found: &[Finding]) -> String {
    let mut text = String::new();
    let mut topic = None;
    let mut advice = "";
    let width = found
        .iter()
        .map(|finding| name(finding).chars().count())
        .max()
        .unwrap_or(0);
    for alike in found.chunk_by(is_skipped_alike) {
        // One finding stands for many, with their number.
        let told = if alike.len() > FEW { 1 } else { alike.len() };
        for finding in &alike[..told] {
            let own = CATALOGUE.iter().find(|check| check.name == finding.check);
            let own = own.map(|check| check.topic);
            if own != topic {
                let gap = if topic.is_some() { "\n\n" } else { "" };
                let _ = write!(
                    text,
                    "{gap}{}",
                    own.map_or(String::new(), |topic| topic.to_string())
                );
                topic = own;
            }
            let mark = match finding.verdict {
                Verdict::Passed => "ok",
                Verdict::Warned => "WARNED",
                Verdict::Failed => "FAILED",
                Verdict::Skipped => "skipped",
            };
            let who = if told < alike.len() {
                format!("{} checks", alike.len())
            } else {
                name(finding)
            };
            let _ = write!(text, "\n  {mark:<8}{who:<width$}  {}", finding.evidence);
            if finding.verdict != Verdict::Passed && finding.fix != advice {
                advice = &finding.fix;
                if !advice.is_empty() {
                    let _ = write!(text, "\n  {:8}{:width$}  → {advice}", "", "");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_with_what_to_do() {
        let finding = |check, subject: Option<&str>, verdict, fix: &str| Finding {
            check,
            subject: subject.map(str::to_owned),
            verdict,
            evidence: "seen".into(),
            fix: fix.into(),
        };
        let found = [
            finding("tls", None, Verdict::Passed, ""),
            finding("run-failed", Some("update"), Verdict::Failed, "mend it"),
        ];
        let expected = "database\n  ok      tls                seen\n\njobs\n  FAILED  run-failed update  seen\n                             → mend it";
        assert_eq!(describe(&found), expected);
        assert_eq!(failures(&found), "run-failed update");
        // Many checks that are skipped for one reason are one line in each paragraph.
        let skipped = |check| finding(check, None, Verdict::Skipped, "see a");
        let found = [
            "tls",
            "pooler",
            "grants",
            "indexes",
            "run-failed",
            "run-missed",
        ]
        .map(skipped);
        let expected = "database\n  skipped 4 checks    seen\n                      → see a\n\njobs\n  skipped run-failed  seen\n  skipped run-missed  seen";
        assert_eq!(describe(&found), expected);
    }
}
