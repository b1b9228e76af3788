use crate::metric::{signed, unsigned_zero};
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

/// How a figure is written: what was measured and its bound alike, so that the two can be compared as they stand.
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
    /// What is written of `x`, with `more` decimals than usual.
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

    /// What was measured, and its bound: as many decimals as it takes to see that they differ, if they do.
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

/// What was measured, and how it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) value: f64,
    pub(super) unit: Unit,
    /// False where there was nobody to measure it on: then no number is told.
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

impl Check {
    /// `words` end where the figure is to stand. NaN does not hold.
    pub(super) fn at_least(name: &str, figure: Figure, bound: f64, words: &str) -> Self {
        let passed = figure.value >= bound;
        Self::new(name, passed, figure, ("at least", bound), words)
    }

    /// `words` end where the figure is to stand. NaN does not hold.
    pub(super) fn at_most(name: &str, figure: Figure, bound: f64, words: &str) -> Self {
        let passed = figure.value <= bound;
        Self::new(name, passed, figure, ("at most", bound), words)
    }

    fn new(
        name: &str,
        passed: bool,
        figure: Figure,
        (side, bound): (&str, f64),
        words: &str,
    ) -> Self {
        let Figure { value, unit, known } = figure;
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

    /// What else is to be known of it.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.words.push_str(more);
        self
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

    /// Who reads a line compares the two numbers that stand in it.
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
            // As far as it takes to see that it is below.
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
