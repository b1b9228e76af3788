use crate::metric::{signed, unsigned_zero};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// One check of a challenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Key; it never changes.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// Measured value. JSON has only finite numbers: others are written as `null` and read back as
    /// NaN.
    #[serde(deserialize_with = "number")]
    pub measured: f64,
    /// Bound of the value; written like `measured`.
    #[serde(deserialize_with = "number")]
    pub bound: f64,
    /// Explanation.
    pub words: String,
}

/// A number, or `null` for one that is not finite.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let number = Option::<f64>::deserialize(from)?;
    Ok(number.unwrap_or(f64::NAN))
}

/// How a figure is written. The measured value and its bound are written alike, so that they can be
/// compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A whole number.
    Count,
    /// A share, in per cent.
    Percent,
    /// A difference of shares, in percentage points.
    Points,
    /// A number between 0 and 1.
    Number,
    /// A difference of such numbers, with its sign.
    Difference,
    /// Standard deviations.
    Deviations,
}

impl Unit {
    /// `x` in words, with `more` decimals than usual.
    fn number(self, x: f64, more: usize) -> String {
        match self {
            Self::Count => format!("{x:.0}"),
            Self::Percent | Self::Points => unsigned_zero(format!("{:.*}", 1 + more, 100.0 * x)),
            Self::Number => unsigned_zero(format!("{x:.*}", 3 + more)),
            Self::Difference => signed(x, 4 + more),
            Self::Deviations => format!("{x:.*}", 2 + more),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Count | Self::Number | Self::Difference => "",
            Self::Percent => " %",
            Self::Points => " points",
            Self::Deviations => " standard deviations",
        }
    }

    /// The measured value and its bound, with as many decimals as show a difference if there is
    /// one.
    fn pair(self, measured: f64, bound: f64) -> (String, String) {
        let pair = |more| (self.number(measured, more), self.number(bound, more));
        let differ = |more: &usize| {
            let (measured, bound) = pair(*more);
            measured != bound
        };
        let same = measured.total_cmp(&bound).is_eq();
        let more = (0..6).find(differ).filter(|_| !same).unwrap_or(0);
        pair(more)
    }
}

/// A measured value, and how it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) value: f64,
    pub(super) unit: Unit,
    /// False if there was nobody to measure it on: no number is written then.
    pub(super) known: bool,
}

impl Figure {
    pub(super) fn new(value: f64, unit: Unit) -> Self {
        Self {
            value,
            unit,
            known: true,
        }
    }
}

/// Bound of a figure.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Check {
    /// The figure is written after `words`. NaN does not pass.
    pub(super) fn at_least(name: &str, figure: Figure, bound: f64, words: &str) -> Self {
        Self::new(name, figure, Bound::AtLeast(bound), words)
    }

    /// The figure is written after `words`. NaN does not pass.
    pub(super) fn at_most(name: &str, figure: Figure, bound: f64, words: &str) -> Self {
        Self::new(name, figure, Bound::AtMost(bound), words)
    }

    fn new(name: &str, figure: Figure, bound: Bound, words: &str) -> Self {
        let Figure { value, unit, known } = figure;
        let (passed, side, bound) = match bound {
            Bound::AtLeast(bound) => (value >= bound, "at least", bound),
            Bound::AtMost(bound) => (value <= bound, "at most", bound),
        };
        let (measured, limit) = unit.pair(value, bound);
        let unit = unit.name();
        let figure = if known {
            format!(" {measured}{unit}")
        } else {
            String::new()
        };
        Self {
            name: name.to_owned(),
            passed,
            measured: value,
            bound,
            words: format!("{words}{figure} ({side} {limit}{unit})"),
        }
    }

    /// Adds more words.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.words.push_str(more);
        self
    }
}

/// Result of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In the order in which to read them.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The checks that did not pass.
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

    /// A refusal must be readable again, even if its numbers are not finite.
    #[test]
    fn what_is_not_finite_can_be_read_again() {
        let checks = vec![
            Check::at_most(
                "drift",
                Figure::new(f64::INFINITY, Unit::Deviations),
                1.0,
                "moved",
            ),
            Check::at_least(
                "auc",
                Figure::new(f64::NAN, Unit::Number),
                f64::NEG_INFINITY,
                "AUC",
            ),
            Check::at_least("users", Figure::new(30.0, Unit::Count), 20.0, "users"),
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

    /// Readers compare the two numbers of a line.
    #[test]
    fn what_is_measured_is_written_as_its_bound() {
        let words = |value, unit, bound| {
            Check::at_least("a", Figure::new(value, unit), bound, "it is").words
        };
        for (said, expected) in [
            (words(327.0, Unit::Count, 20.0), "it is 327 (at least 20)"),
            (
                words(0.1, Unit::Percent, 0.5),
                "it is 10.0 % (at least 50.0 %)",
            ),
            (
                words(0.036, Unit::Points, 0.1),
                "it is 3.6 points (at least 10.0 points)",
            ),
            (
                words(0.0055, Unit::Difference, 0.0),
                "it is +0.0055 (at least 0.0000)",
            ),
            // As many decimals as show that it is below.
            (
                words(0.649_97, Unit::Number, 0.65),
                "it is 0.64997 (at least 0.65000)",
            ),
            (
                words(0.65, Unit::Number, 0.65),
                "it is 0.650 (at least 0.650)",
            ),
            (
                words(f64::NAN, Unit::Number, 0.65),
                "it is NaN (at least 0.650)",
            ),
        ] {
            assert_eq!(said, expected);
        }
        let unknown = Figure {
            known: false,
            ..Figure::new(0.0, Unit::Number)
        };
        let check = Check::at_most("a", unknown, 0.9, "it is not known");
        assert_eq!(
            check.and("; so").words,
            "it is not known (at most 0.900); so"
        );
    }
}
