//! Whether all is as it should be: each check says what it found and what to do. `twotower doctor` asks all of them once; those that are
//! watched are asked again and again, and alerts come of what they say.

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
    /// What it is about.
    pub topic: Topic,
    /// Of checks that alerts come of.
    pub watched: Option<Severity>,
    /// What it asks.
    pub asks: Asks,
}

/// What a check asks, without which it cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The database, whichever it is.
    Database,
    /// A database server: of a file there is nothing to look at.
    DatabaseServer,
    /// Something else, or several things of which the database is none.
    Others,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
