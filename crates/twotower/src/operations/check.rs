//! Health checks: each says what it found and how to fix it. `twotower doctor` runs all of them
//! once; the watched ones run at intervals and raise alerts.

mod catalogue;

mod finding;

mod round;

mod remembered;

pub(super) mod http;

mod exposition;

mod database;

mod schema;

mod data;

mod vectors;

mod models;

mod drift;

mod jobs;

mod server;

mod load;

mod outside;

mod certificate;

mod host;

mod keys;

mod environment;

pub use catalogue::{CATALOGUE, Topic};
pub(crate) use drift::count_at_night;
pub use round::{Scope, examine, examine_named};

use serde::{Deserialize, Serialize};

/// Severity of a check that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look during working hours.
    Warning,
    /// Somebody has to look now.
    Critical,
}

/// A health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Lower-case words with hyphens, as documents, alerts and the runbook (`docs/runbook.md#name`)
    /// spell it.
    pub name: &'static str,
    /// What it checks, in a few words.
    pub title: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// Severity of its alerts; `None` if it raises none.
    pub watched: Option<Severity>,
    /// What it needs.
    pub needs: Needs,
}

/// What a check needs to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The database, of either kind.
    Database,
    /// A database server; skipped for the embedded database.
    DatabaseServer,
    /// Something else, or several things other than the database.
    Others,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Passed,
    /// It works, but should be better.
    Warned,
    /// Something is wrong.
    Failed,
    /// It could not be checked, or does not apply here.
    Skipped,
}

/// What a check found. Holds no personal data and no secrets: it goes into mail and into the
/// support bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// [`Check::name`].
    pub check: &'static str,
    /// Which of several things the check covers: a job, a host.
    pub subject: Option<String>,
    /// The result.
    pub verdict: Verdict,
    /// What was measured.
    pub evidence: String,
    /// What to do; empty if nothing.
    pub fix: String,
}
