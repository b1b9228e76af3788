//! Messages: one per round and channel, as JSON for programs and as text for people.

use super::state::{Alert, Occasion, Phase};
use crate::operations::check::Severity;
use crate::time::second_rfc3339;
use serde::Serialize;
use std::fmt::Write as _;
use twotower_core::time::{DAY, SECOND_US};

/// Version of the JSON format; it grows with changes that receivers must know of.
const FORMAT: u32 = 1;

/// Evidence and fix are cut to this many characters: some channels refuse long messages altogether.
const LONGEST: usize = 600;

/// Purpose of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// It reports alerts.
    Alerts,
    /// It tests delivery.
    Test,
}

/// Whether any alert in a message is firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// At least one is firing.
    Firing,
    /// All are resolved.
    Resolved,
}

/// A message. Serialized, it is what webhooks and commands get (docs/configuration.md, "alerts").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Message {
    version: u32,
    /// Unique to the message.
    pub(super) id: String,
    kind: Kind,
    status: Status,
    /// The machine that ran the checks.
    host: String,
    sent_at: String,
    /// One line of text.
    pub(super) summary: String,
    /// Critical ones first.
    pub(super) alerts: Vec<Item>,
}

/// One alert in a message. Times are RFC 3339, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Item {
    /// The alert's key: check and subject.
    pub(super) key: String,
    check: String,
    subject: Option<String>,
    title: String,
    severity: Severity,
    /// Why it is reported.
    pub(super) status: Occasion,
    flapping: bool,
    since: String,
    last_seen: String,
    resolved_at: Option<String>,
    lasted_seconds: u64,
    evidence: String,
    fix: String,
    runbook: String,
}

impl Item {
    /// An alert as it is reported; links begin with `runbook`.
    pub(super) fn new(alert: &Alert, occasion: Occasion, runbook: &str, now_us: i64) -> Self {
        let resolved_us = match alert.phase {
            Phase::Resolved { at_us } => Some(at_us),
            Phase::Pending | Phase::Firing => None,
        };
        let lasted_us = resolved_us.unwrap_or(now_us) - alert.since_us;
        Self {
            key: alert.key(),
            check: alert.check.clone(),
            subject: alert.subject.clone(),
            title: alert.title.clone(),
            severity: alert.severity,
            status: occasion,
            flapping: alert.flapping,
            since: second_rfc3339(alert.since_us),
            last_seen: second_rfc3339(alert.last_seen_us),
            resolved_at: resolved_us.map(second_rfc3339),
            lasted_seconds: (lasted_us / SECOND_US).max(0) as u64,
            evidence: shortened(&alert.evidence),
            fix: shortened(&alert.fix),
            runbook: format!("{runbook}#{}", alert.check),
        }
    }

    fn heading(&self) -> String {
        let severity = match self.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "WARNING",
        };
        let comes_and_goes = if self.flapping {
            ", comes and goes"
        } else {
            ""
        };
        let what = match self.status {
            Occasion::Firing => format!("{severity}{comes_and_goes}"),
            Occasion::StillFiring => format!("{severity}, still{comes_and_goes}"),
            Occasion::Resolved => "OVER".into(),
        };
        format!("{what}: {}", self.name())
    }

    fn name(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{} ({subject})", self.check),
            None => self.check.clone(),
        }
    }

    /// Label and text of each line below the heading.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let lasted = duration(self.lasted_seconds);
        let mut lines = vec![("expected", self.title.clone())];
        if let Some(resolved_at) = &self.resolved_at {
            let from_to = format!("{} to {resolved_at}: {lasted}", self.since);
            lines.push(("lasted", from_to));
            lines.push(("last seen", self.evidence.clone()));
        } else {
            lines.push(("since", format!("{}: {lasted}", self.since)));
            lines.push(("seen", self.evidence.clone()));
            if !self.fix.is_empty() {
                lines.push(("to do", self.fix.clone()));
            }
        }
        lines.push(("runbook", self.runbook.clone()));
        lines
    }

    /// Sort key: critical before warning, firing before resolved.
    fn rank(&self) -> (bool, bool, &str) {
        (
            self.status == Occasion::Resolved,
            self.severity == Severity::Warning,
            &self.key,
        )
    }
}

impl Message {
    /// A message that reports `alerts`, of which there is at least one.
    pub(super) fn of_alerts(mut alerts: Vec<Item>, host: &str, now_us: i64) -> Self {
        alerts.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let over = |item: &&Item| item.status == Occasion::Resolved;
        let resolved = alerts.iter().filter(over).count();
        let critical = |item: &&Item| !over(item) && item.severity == Severity::Critical;
        let critical = alerts.iter().filter(critical).count();
        let counts = [
            (critical, "critical"),
            (alerts.len() - resolved - critical, "warning"),
            (resolved, "over"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts.map(|(n, what)| format!("{n} {what}")).collect();
        let mut names: Vec<_> = alerts.iter().take(3).map(Item::name).collect();
        if alerts.len() > names.len() {
            names.push("…".into());
        }
        Self {
            version: FORMAT,
            id: format!("{now_us}.{}", std::process::id()),
            kind: Kind::Alerts,
            status: if resolved < alerts.len() {
                Status::Firing
            } else {
                Status::Resolved
            },
            host: host.into(),
            sent_at: second_rfc3339(now_us),
            summary: format!("{}: {}", counts.join(", "), names.join(", ")),
            alerts,
        }
    }

    /// A message that tests delivery.
    pub(super) fn test(host: &str, now_us: i64) -> Self {
        Self {
            version: FORMAT,
            id: format!("{now_us}.{}", std::process::id()),
            kind: Kind::Test,
            status: Status::Resolved,
            host: host.into(),
            sent_at: second_rfc3339(now_us),
            summary: "a test: nothing is wrong, alerts arrive here".into(),
            alerts: Vec::new(),
        }
    }

    /// Subject of a mail.
    pub(super) fn subject(&self) -> String {
        format!("[twotower] {} on {}", self.summary, self.host)
    }

    /// Body of a mail.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.summary);
        for item in &self.alerts {
            let _ = writeln!(text, "\n{}", item.heading());
            for (label, line) in item.lines() {
                let _ = writeln!(text, "  {label:<9}  {line}");
            }
        }
        let _ = write!(text, "\ntwotower on {}, {}\n", self.host, self.sent_at);
        text
    }

    /// Text of a chat message, in Slack's markup.
    pub(super) fn markup(&self) -> String {
        let mut text = format!("*{}* on {}", escaped(&self.summary), escaped(&self.host));
        for item in &self.alerts {
            let sign = match (item.status, item.severity) {
                (Occasion::Resolved, _) => ":white_check_mark:",
                (_, Severity::Critical) => ":rotating_light:",
                (_, Severity::Warning) => ":warning:",
            };
            let _ = write!(text, "\n\n{sign} *{}*", escaped(&item.heading()));
            for (label, line) in item.lines() {
                let _ = write!(text, "\n• {label}: {}", escaped(&line));
            }
        }
        text
    }
}

/// Escapes the three characters that are special to Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Cuts a text to one line of limited length.
fn shortened(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    let begin: String = line.chars().take(LONGEST).collect();
    format!("{begin}…")
}

/// A duration in its two largest units: `2 h 10 min`.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (
        seconds / DAY.as_secs(),
        seconds / 3600 % 24,
        seconds / 60 % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn alert(check: &str, severity: Severity, phase: Phase) -> Alert {
        Alert {
            check: check.into(),
            subject: (check == "run-failed").then(|| "update".into()),
            title: "the latest run of a job went well".into(),
            severity,
            phase,
            since_us: 1_700_000_000_000_000,
            last_seen_us: 1_700_003_600_000_000,
            right_since_us: None,
            flapping: false,
            evidence: "exit code 1:\n\ta < b & c".into(),
            fix: "look at the log".into(),
            told: BTreeMap::new(),
        }
    }

    fn message() -> Message {
        let now_us = 1_700_007_800_000_000;
        let resolved = Phase::Resolved {
            at_us: 1_700_000_600_000_000,
        };
        let items = [
            (
                alert("clock", Severity::Warning, resolved),
                Occasion::Resolved,
            ),
            (
                alert("connections", Severity::Warning, Phase::Firing),
                Occasion::StillFiring,
            ),
            (
                alert("run-failed", Severity::Critical, Phase::Firing),
                Occasion::Firing,
            ),
        ];
        let items = items.map(|(alert, why)| Item::new(&alert, why, "docs/runbook.md", now_us));
        let mut message = Message::of_alerts(items.into(), "db1", now_us);
        message.id = "1".into();
        message
    }

    #[test]
    fn a_mail_says_what_since_when_and_what_to_do() {
        let message = message();
        assert_eq!(
            message.subject(),
            "[twotower] 1 critical, 1 warning, 1 over: run-failed (update), connections, clock on db1"
        );
        assert_eq!(
            message.text(),
            "\
1 critical, 1 warning, 1 over: run-failed (update), connections, clock

CRITICAL: run-failed (update)
  expected   the latest run of a job went well
  since      2023-11-14T22:13:20Z: 2 h 10 min
  seen       exit code 1: a < b & c
  to do      look at the log
  runbook    docs/runbook.md#run-failed

WARNING, still: connections
  expected   the latest run of a job went well
  since      2023-11-14T22:13:20Z: 2 h 10 min
  seen       exit code 1: a < b & c
  to do      look at the log
  runbook    docs/runbook.md#connections

OVER: clock
  expected   the latest run of a job went well
  lasted     2023-11-14T22:13:20Z to 2023-11-14T22:23:20Z: 10 min
  last seen  exit code 1: a < b & c
  runbook    docs/runbook.md#clock

twotower on db1, 2023-11-15T00:23:20Z
"
        );
    }

    #[test]
    fn a_chat_escapes_what_means_something_to_it() {
        let markup = message().markup();
        assert!(markup.contains("a &lt; b &amp; c"), "{markup}");
        assert!(
            markup.contains(":rotating_light: *CRITICAL: run-failed (update)*"),
            "{markup}"
        );
    }

    /// Receivers rely on these field names, which docs/configuration.md shows.
    #[test]
    fn the_documents_show_every_field() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let example = docs.split("```json\n{\"version\"").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let example = format!("{{\"version\"{example}");
        let shown: serde_json::Value = serde_json::from_str(&example).unwrap();
        let ours = serde_json::to_value(message()).unwrap();
        let names = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&shown), names(&ours));
        assert_eq!(names(&shown["alerts"][0]), names(&ours["alerts"][0]));
    }

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (59, "59 s"),
            (60, "1 min"),
            (7_800, "2 h 10 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        assert_eq!(shortened(&"x ".repeat(2000)).chars().count(), LONGEST + 1);
    }
}
