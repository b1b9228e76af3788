//! Tells whether two arms of an experiment differ, with users as the unit of randomisation.
//!
//! A metric is a ratio of sums over users, such as clicks over impressions. Impressions of one user
//! are not independent, so that a formula for proportions would be too optimistic. The delta method
//! treats each user as one draw (Deng, Knoblich and Lu, "Applying the Delta Method in Metric
//! Analytics", KDD 2018).

use serde::Serialize;
use std::f64::consts::SQRT_2;

/// Two-sided 95 % quantile of a normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// Error rate of all looks together.
const ALPHA: f64 = 0.05;

/// Number of users per arm that [`AtAnyTime`] is tuned to. With 400 users it requires a difference
/// of 3.0 standard errors; between 35 and a million users at most 4. The same for all experiments
/// and not taken from data, as the theorem requires.
const TUNED_USERS: f64 = 50.0;

/// 80 % quantile of a normal distribution.
const Z_80: f64 = 0.841_621_233_572_914;

/// At least this many users per arm are needed for any result. The delta method and the normal
/// distribution hold for many users: with five, one in six differences called significant at 5 %
/// would be false.
pub const FEWEST_USERS: u64 = 30;

/// Weights of a binomial distribution below this are not summed; the likeliest count has weight 1.
const NEGLIGIBLE: f64 = 1e-300;

/// Running sums over users of the numerator and the denominator of a metric.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RatioSums {
    users: u64,
    numerator: f64,
    denominator: f64,
    numerator_squared: f64,
    denominator_squared: f64,
    product: f64,
}

/// A metric and its precision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Sum of the numerators over the sum of the denominators.
    pub value: f64,
    /// Standard deviation of `value` over repetitions of the experiment.
    pub standard_error: f64,
    /// Number of users that it is estimated from.
    pub users: u64,
}

/// The difference of two independent estimates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Challenger minus control.
    pub value: f64,
    /// Standard error of `value`, by the variances of the arms or by the pooled variance, whichever
    /// is larger. In a small arm with few rare events by chance, both the metric and its variance
    /// are small, and the difference would seem certain.
    pub standard_error: f64,
    /// Users per arm, if both had equally many with as much information: the harmonic mean.
    #[serde(skip)]
    pub users: f64,
    /// Probability of a difference at least as large, in either direction, if there is none
    /// (two-sided z-test).
    pub p_value: f64,
}

/// A statement about a difference that holds at every look, however often somebody looks and
/// whenever they stop.
///
/// An ordinary p-value holds for one look at a time fixed in advance. With 14 looks at arms that do
/// not differ, one falls below 5 % in more than 20 of 100 experiments. This is the mixture
/// sequential probability ratio test (Robbins 1970; Johari, Koomen, Pekelis and Walsh, "Peeking at
/// A/B Tests", KDD 2017): with a difference drawn from a normal distribution of mean 0 and standard
/// deviation τ, the likelihood ratio against no difference,
///
/// Λ = √(V / (V + τ²)) · exp(τ² θ² / (2 V (V + τ²))),
///
/// is a martingale if there is none, and ever exceeds 1 / α with a probability of at most α. θ is
/// the difference found, V the square of its standard error.
///
/// τ is the standard error with [`TUNED_USERS`], so that τ² / V is the number of users over theirs
/// and nothing has to be known of the metric: the asymptotic confidence sequence of Waudby-Smith,
/// Arbour, Sinha, Kennedy and Ramdas ("Time-uniform central limit theory", Annals of Statistics
/// 2024). A τ that is a small part of the control's value would find small differences a little
/// sooner, and large ones only with thousands of users.
///
/// The clock is the number of users, so that this holds while users arrive. If no new users arrive
/// and the existing ones continue, hourly looks find a false difference in 4 to 6 of 100
/// experiments within 90 days to a year.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtAnyTime {
    /// 1 / Λ, at most 1.
    pub p_value: f64,
    /// Lower end of an interval that is wrong at any look in at most 5 of 100 experiments.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Whether users were assigned to the arms as planned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SampleRatio {
    /// Expected number of users with the challenger.
    pub expected: f64,
    /// Probability of a count that is at most as likely (exact binomial test, two-sided).
    pub p_value: f64,
}

impl RatioSums {
    /// Adds one user. A user whose denominator is 0 says nothing about the metric and is left out.
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

    /// The ratio and its standard error; `None` with fewer than two users.
    pub fn estimate(&self) -> Option<Estimate> {
        if self.users < 2 {
            return None;
        }
        let n = self.users as f64;
        let value = self.numerator / self.denominator;
        let (x, y) = (self.numerator / n, self.denominator / n);
        let variance = |squared: f64, one: f64, other: f64| (squared - n * one * other) / (n - 1.0);
        // Residuals of numerator − ratio · denominator, whose mean is 0.
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

    /// Users per arm for a look at [`AtAnyTime`] to find a difference of `relative` times this
    /// value in 80 of 100 experiments; `None` while nothing varies.
    pub fn users_needed(&self, relative: f64) -> Option<u64> {
        let difference = (relative * self.value).abs();
        // With two equal arms the variance of the difference is twice that of one.
        let of_one = (2.0 * self.users as f64).sqrt() * self.standard_error;
        let finds = |users: u64| {
            let users = users as f64;
            difference * users.sqrt() >= of_one * (boundary(users) + Z_80)
        };
        if difference <= 0.0 || of_one <= 0.0 || !finds(u64::MAX) {
            return None;
        }
        let (mut fewer, mut enough) = (FEWEST_USERS - 1, u64::MAX);
        while enough - fewer > 1 {
            let users = fewer + (enough - fewer) / 2;
            if finds(users) {
                enough = users;
            } else {
                fewer = users;
            }
        }
        Some(enough)
    }
}

impl Difference {
    /// The difference of two arms without common users. `None` if either has fewer than
    /// [`FEWEST_USERS`], or nothing varies in both.
    pub fn between(challenger: &Estimate, control: &Estimate) -> Option<Self> {
        let value = challenger.value - control.value;
        let [tried, held] = [challenger, control].map(|arm| arm.users as f64);
        // The variance of one user of both arms together is (n₁² s₁² + n₂² s₂²) / (n₁ + n₂); that
        // of a difference is 1/n₁ + 1/n₂ times as large.
        let together = (tried * challenger.standard_error).hypot(held * control.standard_error)
            / (tried * held).sqrt();
        let apart = challenger.standard_error.hypot(control.standard_error);
        let standard_error = apart.max(together);
        let fewest = challenger.users.min(control.users);
        (fewest >= FEWEST_USERS && standard_error > 0.0).then(|| Self {
            value,
            standard_error,
            users: 2.0 / (tried.recip() + held.recip()),
            p_value: erfc(value.abs() / standard_error / SQRT_2),
        })
    }

    /// Lower and upper end of the 95 % confidence interval.
    pub fn interval(&self) -> (f64, f64) {
        around(self.value, self.standard_error)
    }

    /// A statement for repeated looks.
    pub fn at_any_time(&self) -> AtAnyTime {
        let errors = self.value / self.standard_error;
        let ratio = self.users / TUNED_USERS;
        let p_value =
            (1.0 + ratio).sqrt() * (-errors.powi(2) / (2.0 * (1.0 + ratio.recip()))).exp();
        // All differences around which 1 / Λ is at least ALPHA.
        let half = boundary(self.users) * self.standard_error;
        AtAnyTime {
            p_value: p_value.min(1.0),
            low: self.value - half,
            high: self.value + half,
        }
    }
}

impl SampleRatio {
    /// With a smaller p-value, users were most likely not assigned to the arms as planned:
    /// something is wrong.
    pub const SUSPICIOUS: f64 = 0.001;

    /// Compares the users found in the arms with the `share` planned for the challenger; `None`
    /// without any user.
    ///
    /// Exact, because with 3 users where half of one is expected, tests by a normal distribution
    /// give a probability of 1 in 2,600 instead of 1 in 72.
    pub fn of(control: u64, challenger: u64, share: f64) -> Option<Self> {
        let users = control + challenger;
        if users == 0 || share <= 0.0 || share >= 1.0 {
            return None;
        }
        Some(Self {
            expected: share * users as f64,
            p_value: binomial_p_value(challenger, users, share),
        })
    }

    /// Whether the results of the experiment cannot be trusted.
    pub fn is_suspicious(&self) -> bool {
        self.p_value < Self::SUSPICIOUS
    }
}

/// Number of standard errors away from 0 where 1 / Λ of [`AtAnyTime`] is [`ALPHA`].
fn boundary(users: f64) -> f64 {
    let ratio = users / TUNED_USERS;
    ((1.0 + ratio.recip()) * (2.0 * ALPHA.recip().ln() + ratio.ln_1p())).sqrt()
}

fn around(value: f64, standard_error: f64) -> (f64, f64) {
    let half = Z_95 * standard_error;
    (value - half, value + half)
}

/// Probability that a binomial variable of `n` draws, each with probability `share`, has a value at
/// most as likely as `found`; at least [`NEGLIGIBLE`].
fn binomial_p_value(found: u64, n: u64, share: f64) -> f64 {
    let odds = share / (1.0 - share);
    let likeliest = (((n + 1) as f64 * share) as u64).min(n);
    // Weights relative to that of the likeliest count, to either side; each follows from the one
    // before.
    let up = (likeliest..n).scan(1.0, |weight, k| {
        *weight *= (n - k) as f64 / (k + 1) as f64 * odds;
        Some((k + 1, *weight))
    });
    let down = (0..likeliest).rev().scan(1.0, |weight, k| {
        *weight *= (k + 1) as f64 / (n - k) as f64 / odds;
        Some((k, *weight))
    });
    let counts = |(_, weight): &(u64, f64)| *weight > NEGLIGIBLE;
    let weights = || {
        std::iter::once((likeliest, 1.0))
            .chain(up.clone().take_while(counts))
            .chain(down.clone().take_while(counts))
    };
    let of_found = weights().find(|&(k, _)| k == found);
    // Two equally likely counts may differ by rounding.
    let bound = of_found.map_or(0.0, |(_, weight)| weight * (1.0 + 1e-7));
    let total: f64 = weights().map(|(_, weight)| weight).sum();
    let as_odd: f64 = weights()
        .map(|(_, weight)| weight)
        .filter(|&weight| weight <= bound)
        .sum();
    (as_odd / total).max(NEGLIGIBLE)
}

/// Complementary error function for x ≥ 0: a series below 2.5, a continued fraction above
/// (Abramowitz and Stegun, 7.1.6 and 7.1.14).
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
mod tests;
