use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// One thing that was asked of a challenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Key that does not change.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was measured. JSON has no number that is not finite: such a one is written as `null`, and comes back as NaN.
    #[serde(deserialize_with = "number")]
    pub measured: f64,
    /// The bound it was held against; as `measured`.
    #[serde(deserialize_with = "number")]
    pub bound: f64,
    /// What that means.
    pub words: String,
}

/// A number, or `null` for one that is not finite.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let number = Option::<f64>::deserialize(from)?;
    Ok(number.unwrap_or(f64::NAN))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What refuses a model has to be read again, and not only where it is a number that JSON has.
    #[test]
    fn what_is_not_finite_can_be_read_again() {
        let checks = vec![
            Check::at_most("drift", f64::INFINITY, 1.0, "moved"),
            Check::at_least("auc", f64::NAN, f64::NEG_INFINITY, "AUC"),
            Check::at_least("users", 30.0, 20.0, "users"),
        ];
        let written = serde_json::to_string(&Verdict { checks }).unwrap();
        let read: Verdict = serde_json::from_str(&written).unwrap();
        let passed: Vec<bool> = read.checks.iter().map(|check| check.passed).collect();
        assert_eq!(passed, [false, false, true]);
        assert!(read.checks[0].measured.is_nan() && read.checks[1].bound.is_nan());
        assert_eq!(read.checks[2].bound.to_bits(), 20.0_f64.to_bits());
        assert!(serde_json::from_str::<Verdict>(&written.replace("null", "\"x\"")).is_err());
        let without = written.replace("\"measured\":null,", "");
        assert!(serde_json::from_str::<Verdict>(&without).is_err());
    }
}
