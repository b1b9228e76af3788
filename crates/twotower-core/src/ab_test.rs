//! Whether two arms of an experiment differ, with users as the unit that was drawn.
//!
//! A metric is a ratio of sums over users: clicks over impressions, say. Impressions of one user are not independent of each
//! other, so that a formula for proportions would promise too much; the delta method takes each user as one draw (Deng, Knoblich
//! and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018).

use serde::Serialize;
use std::f64::consts::SQRT_2;

/// Two-sided 95 % under a normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// To find an effect in 80 of 100 experiments.
const Z_POWER_80: f64 = 0.841_621_233_572_914;

/// Running sums of a pair of numbers a user: the numerator and the denominator of a metric.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RatioSums {
    users: u64,
    numerator: f64,
    denominator: f64,
    numerator_squared: f64,
    denominator_squared: f64,
    product: f64,
}

/// A metric and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Sum of the numerators over the sum of the denominators.
    pub value: f64,
    /// Standard deviation of `value` over repetitions of the experiment.
    pub standard_error: f64,
    /// Users it was made from.
    pub users: u64,
}

/// By how much two independent estimates differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Challenger minus control.
    pub value: f64,
    /// Standard error of `value`.
    pub standard_error: f64,
    /// Chance of a difference at least so large, either way, if there is none (two-sided z-test).
    pub p_value: f64,
}

/// Whether users fell into the arms as they should have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SampleRatio {
    /// Pearson's statistic, one degree of freedom.
    pub chi_square: f64,
    /// Chance of a deviation at least so large.
    pub p_value: f64,
}

impl RatioSums {
    /// Takes one user in. One whose denominator is 0 says nothing of the metric and is left out.
    pub fn push(&mut self, numerator: f64, denominator: f64) {
        if denominator == 0.0 {
            return;
        }
        self.users += 1;
        self.numerator += numerator;
        self.denominator += denominator;
        self.numerator_squared += numerator * numerator;
        self.denominator_squared += denominator * denominator;
        self.product += numerator * denominator;
    }

    /// The ratio and its standard error; `None` of fewer than two users.
    pub fn estimate(&self) -> Option<Estimate> {
        if self.users < 2 {
            return None;
        }
        let n = self.users as f64;
        let value = self.numerator / self.denominator;
        let (x, y) = (self.numerator / n, self.denominator / n);
        let variance = |squared: f64, one: f64, other: f64| (squared - n * one * other) / (n - 1.0);
        // Of numerator − ratio · denominator, whose mean is 0.
        let residual = variance(self.numerator_squared, x, x)
            - 2.0 * value * variance(self.product, x, y)
            + value * value * variance(self.denominator_squared, y, y);
        Some(Estimate {
            value,
            standard_error: (residual.max(0.0) / n).sqrt() / y,
            users: self.users,
        })
    }
}

impl Estimate {
    /// Lower and upper end of the 95 % confidence interval.
    pub fn interval(&self) -> (f64, f64) {
        around(self.value, self.standard_error)
    }

    /// Users an arm needs so that a difference of `relative` times this value is found in 80 of 100 experiments.
    pub fn users_needed(&self, relative: f64) -> Option<u64> {
        let difference = (relative * self.value).abs();
        // Two arms alike: the variance of the difference is twice that of one.
        let variance = 2.0 * self.standard_error.powi(2) * self.users as f64;
        let users = (Z_95 + Z_POWER_80).powi(2) * variance / difference.powi(2);
        users.is_finite().then(|| users.ceil() as u64)
    }
}

impl Difference {
    /// Of two arms that have no user in common. `None` where nothing varies in either: a test has nothing to go by.
    pub fn between(challenger: &Estimate, control: &Estimate) -> Option<Self> {
        let value = challenger.value - control.value;
        let standard_error = challenger.standard_error.hypot(control.standard_error);
        (standard_error > 0.0).then(|| Self {
            value,
            standard_error,
            p_value: erfc(value.abs() / standard_error / SQRT_2),
        })
    }

    /// Lower and upper end of the 95 % confidence interval.
    pub fn interval(&self) -> (f64, f64) {
        around(self.value, self.standard_error)
    }
}

impl SampleRatio {
    /// A split that was planned as `share` for the challenger is that improbable below this chance that something is wrong.
    pub const SUSPICIOUS: f64 = 0.001;

    /// Of users found in the arms against the `share` of the challenger; `None` without any.
    pub fn of(control: u64, challenger: u64, share: f64) -> Option<Self> {
        let users = (control + challenger) as f64;
        let expected = share * users;
        let rest = users - expected;
        if expected <= 0.0 || rest <= 0.0 {
            return None;
        }
        let off = challenger as f64 - expected;
        let chi_square = off * off * (1.0 / expected + 1.0 / rest);
        Some(Self {
            chi_square,
            // With one degree of freedom it is the square of a normal variable.
            p_value: erfc((chi_square / 2.0).sqrt()),
        })
    }

    /// Whether nothing of the experiment should be believed.
    pub fn is_suspicious(&self) -> bool {
        self.p_value < Self::SUSPICIOUS
    }
}

fn around(value: f64, standard_error: f64) -> (f64, f64) {
    let half = Z_95 * standard_error;
    (value - half, value + half)
}

/// Complement of the error function for x ≥ 0: a series below 2.5, a continued fraction above (Abramowitz and Stegun, 7.1.6 and
/// 7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 2.5 {
        let mut term = x;
        let mut sum = x;
        let mut n = 0.0;
        while term > sum * f64::EPSILON {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum;
    }
    let fraction = (1..=60)
        .rev()
        .fold(x, |rest, n| x + f64::from(n) / 2.0 / rest);
    (-x * x).exp() / (std::f64::consts::PI.sqrt() * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1e-300), "{a} {b}");
    }

    fn sums(pairs: &[(f64, f64)]) -> RatioSums {
        let mut sums = RatioSums::default();
        for &(numerator, denominator) in pairs {
            sums.push(numerator, denominator);
        }
        sums
    }

    #[test]
    fn erfc_is_the_tabled_one() {
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 0.004_677_734_981_047_266),
            (2.499_999, 0.000_406_954_2),
            (2.5, 0.000_406_952_017_444_958_9),
            (4.0, 1.541_725_790_028_002e-8),
            (6.0, 2.151_973_671_249_891e-17),
        ] {
            close(erfc(x), expected, 1e-5);
        }
    }

    #[test]
    fn with_one_impression_a_user_it_is_the_formula_of_proportions() {
        let pairs: Vec<_> = (0..1000)
            .map(|n| (f64::from(u8::from(n % 5 == 0)), 1.0))
            .collect();
        let estimate = sums(&pairs).estimate().unwrap();
        close(estimate.value, 0.2, 1e-12);
        close(
            estimate.standard_error,
            (0.2_f64 * 0.8 / 999.0).sqrt(),
            1e-9,
        );
        let (low, high) = estimate.interval();
        close(
            high - low,
            2.0 * 1.959_963_984_540_054 * estimate.standard_error,
            1e-12,
        );
        // 16 p (1 − p) / δ², as the rule of thumb has it.
        let needed = estimate.users_needed(0.05).unwrap() as f64;
        close(needed, 15.7 * 0.16 / 0.0001, 0.01);
    }

    #[test]
    fn a_ratio_by_hand() {
        // Ratio 6 / 12; residuals x − y/2: 0, 0.5, −0.5, 0 with variance 0.5 / 3.
        let estimate = sums(&[(1.0, 2.0), (2.0, 3.0), (1.0, 3.0), (2.0, 4.0), (0.0, 0.0)]);
        let estimate = estimate.estimate().unwrap();
        close(estimate.value, 0.5, 1e-12);
        close(
            estimate.standard_error,
            (0.5_f64 / 3.0 / 4.0).sqrt() / 3.0,
            1e-9,
        );
        assert_eq!(estimate.users, 4);
        assert!(sums(&[(1.0, 1.0)]).estimate().is_none());
    }

    #[test]
    fn users_who_see_much_do_not_make_it_surer() {
        let pairs: Vec<_> = (0..500).map(|n| (f64::from(n % 3), 4.0)).collect();
        let tenfold: Vec<_> = pairs.iter().map(|&(x, y)| (10.0 * x, 10.0 * y)).collect();
        let (one, ten) = (sums(&pairs).estimate(), sums(&tenfold).estimate());
        close(
            one.unwrap().standard_error,
            ten.unwrap().standard_error,
            1e-9,
        );
    }

    #[test]
    fn differences_and_splits() {
        let estimate = |value, standard_error| Estimate {
            value,
            standard_error,
            users: 100,
        };
        let found = Difference::between(&estimate(0.12, 0.006), &estimate(0.10, 0.008)).unwrap();
        close(found.value, 0.02, 1e-9);
        close(found.standard_error, 0.01, 1e-9);
        // Two standard errors.
        close(found.p_value, 0.045_500_263_896_358_4, 1e-9);
        assert!(Difference::between(&estimate(0.0, 0.0), &estimate(0.0, 0.0)).is_none());
        let fair = SampleRatio::of(5000, 5100, 0.5).unwrap();
        close(fair.chi_square, 10_000.0 / 10_100.0, 1e-9);
        close(fair.p_value, 0.319_71, 1e-3);
        assert!(!fair.is_suspicious());
        assert!(SampleRatio::of(5000, 5500, 0.5).unwrap().is_suspicious());
        assert!(SampleRatio::of(0, 0, 0.5).is_none());
    }
}
