use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that was asked of a challenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Key that does not change.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was measured.
    pub measured: f64,
    /// The bound it was held against.
    pub bound: f64,
    /// What that means.
    pub words: String,
}

impl Check {
    /// NaN does not hold.
    pub(super) fn at_least(name: &str, measured: f64, bound: f64, words: &str) -> Self {
        Self::new(
            name,
            measured,
            bound,
            measured >= bound,
            format!("{words} (at least {bound:.3})"),
        )
    }

    /// NaN does not hold.
    pub(super) fn at_most(name: &str, measured: f64, bound: f64, words: &str) -> Self {
        Self::new(
            name,
            measured,
            bound,
            measured <= bound,
            format!("{words} (at most {bound:.3})"),
        )
    }

    fn new(name: &str, measured: f64, bound: f64, passed: bool, words: String) -> Self {
        Self {
            name: name.to_owned(),
            passed,
            measured,
            bound,
            words,
        }
    }
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In the order in which they are worth reading.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether every check holds.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The checks that do not hold.
    pub fn refusals(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.passed() { "passed" } else { "refused" })?;
        for check in &self.checks {
            let mark = if check.passed { "ok     " } else { "REFUSED" };
            write!(f, "\n  {mark}  {}", check.words)?;
        }
        Ok(())
    }
}
