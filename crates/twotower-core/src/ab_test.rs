//! Whether two arms of an experiment differ, with users as the unit that was drawn.
//!
//! A metric is a ratio of sums over users: clicks over impressions, say. Impressions of one user are not independent of each
//! other, so that a formula for proportions would promise too much; the delta method takes each user as one draw (Deng, Knoblich
//! and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018).

use serde::Serialize;
use std::f64::consts::SQRT_2;

/// Two-sided 95 % under a normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// 95 % of the looks, all together.
const ALPHA: f64 = 0.05;

/// Standard errors that a difference is away from 0 where one look at [`AtAnyTime`] finds it in 80 of 100 experiments, if it is as large as its
/// `scale`: the root d of Φ(d − √((1 + 1/d²)(2 ln 20 + ln(1 + d²)))) = 0.8. For a test that is made once it would be 2.8.
const POWER_80: f64 = 3.900_080;

/// Users that an arm needs before anything is told of it. The delta method and the normal distribution hold for many users: with five, one in six of
/// the differences called significant at 5 % would be none.
pub const FEWEST_USERS: u64 = 30;

/// Weights of a binomial distribution below which nothing is added up, of 1 for the likeliest count.
const NEGLIGIBLE: f64 = 1e-300;

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

/// What may be said of a difference at every look, however often somebody looks and whenever they stop.
///
/// An ordinary p-value holds for one look at a time that was fixed beforehand; of 14 looks at arms that do not differ, one falls below 5 % in more
/// than 20 of 100 experiments. This is the mixture sequential probability ratio test (Robbins 1970; Johari, Koomen, Pekelis and Walsh,
/// "Peeking at A/B Tests", KDD 2017): with a difference that is drawn from a normal distribution of mean 0 and standard deviation τ, the ratio of
/// likelihoods against no difference,
///
/// Λ = √(V / (V + τ²)) · exp(τ² θ² / (2 V (V + τ²))),
///
/// is a martingale where there is none, and passes 1 / α at any time at all with a chance of α at the most. θ is the difference found, V the square of its
/// standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtAnyTime {
    /// 1 / Λ, 1 at the most.
    pub p_value: f64,
    /// Lower end of an interval that is wrong at any look in 5 of 100 experiments at the most.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Whether users fell into the arms as they should have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SampleRatio {
    /// Users expected with the challenger.
    pub expected: f64,
    /// Chance of a count at least so improbable (exact binomial test, two-sided).
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

    /// Users an arm needs so that a look at [`AtAnyTime`] finds a difference of `relative` times this value in 80 of 100 experiments; `None` where
    /// nothing varies yet.
    pub fn users_needed(&self, relative: f64) -> Option<u64> {
        let difference = (relative * self.value).abs();
        // Two arms alike: the variance of the difference is twice that of one.
        let variance = 2.0 * self.standard_error.powi(2) * self.users as f64;
        let users = (POWER_80.powi(2) * variance / difference.powi(2)).ceil();
        (variance > 0.0 && users.is_finite()).then(|| FEWEST_USERS.max(users as u64))
    }
}

impl Difference {
    /// Of two arms that have no user in common. `None` where either has fewer than [`FEWEST_USERS`], or nothing varies in it: a test has nothing to
    /// go by.
    pub fn between(challenger: &Estimate, control: &Estimate) -> Option<Self> {
        let tells = |arm: &Estimate| arm.users >= FEWEST_USERS && arm.standard_error > 0.0;
        let value = challenger.value - control.value;
        let standard_error = challenger.standard_error.hypot(control.standard_error);
        (tells(challenger) && tells(control)).then(|| Self {
            value,
            standard_error,
            p_value: erfc(value.abs() / standard_error / SQRT_2),
        })
    }

    /// Lower and upper end of the 95 % confidence interval.
    pub fn interval(&self) -> (f64, f64) {
        around(self.value, self.standard_error)
    }

    /// The same for who looks more than once. `scale` is τ: how large a difference is looked for, to be chosen by what matters and not by what was
    /// found; `None` where it is 0.
    pub fn at_any_time(&self, scale: f64) -> Option<AtAnyTime> {
        let variance = self.standard_error.powi(2);
        let mixing = scale.powi(2);
        let both = variance + mixing;
        let p_value = (both / variance).sqrt()
            * (-mixing * self.value.powi(2) / (2.0 * variance * both)).exp();
        // All differences that 1 / Λ around them is at least ALPHA of.
        let bound = 2.0 * ALPHA.recip().ln() + (both / variance).ln();
        let half = (variance * both / mixing * bound).sqrt();
        half.is_finite().then(|| AtAnyTime {
            p_value: p_value.min(1.0),
            low: self.value - half,
            high: self.value + half,
        })
    }
}

impl SampleRatio {
    /// A split that was planned as `share` for the challenger is that improbable below this chance that something is wrong.
    pub const SUSPICIOUS: f64 = 0.001;

    /// Of users found in the arms against the `share` of the challenger; `None` without any.
    ///
    /// Exact, since the tests by a normal distribution call 3 users where half of one was expected once in 2,600 what chance does once in 72.
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

    /// Whether nothing of the experiment should be believed.
    pub fn is_suspicious(&self) -> bool {
        self.p_value < Self::SUSPICIOUS
    }
}

fn around(value: f64, standard_error: f64) -> (f64, f64) {
    let half = Z_95 * standard_error;
    (value - half, value + half)
}

/// Chance that a binomial variable of `n` draws, each with chance `share`, has a value at most as likely as `found`; never less than
/// [`NEGLIGIBLE`].
fn binomial_p_value(found: u64, n: u64, share: f64) -> f64 {
    let odds = share / (1.0 - share);
    let likeliest = (((n + 1) as f64 * share) as u64).min(n);
    // Weights relative to that of the likeliest, away from it to either side: each follows from the one before.
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
    // Two counts that are equally likely may differ by rounding.
    let bound = of_found.map_or(0.0, |(_, weight)| weight * (1.0 + 1e-7));
    let total: f64 = weights().map(|(_, weight)| weight).sum();
    let as_odd: f64 = weights()
        .map(|(_, weight)| weight)
        .filter(|&weight| weight <= bound)
        .sum();
    (as_odd / total).max(NEGLIGIBLE)
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
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

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
        // 2 d² p (1 − p) / δ²; d = 2.8 for one look makes 16, the rule of thumb.
        let needed = estimate.users_needed(0.05).unwrap() as f64;
        close(needed, 30.42 * 0.16 / 0.0001, 0.01);
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
        // Of few users, or of some who do not vary yet, nothing is told.
        let few = Estimate {
            users: 29,
            ..estimate(0.12, 0.006)
        };
        for (challenger, control) in [
            (estimate(0.0, 0.0), estimate(0.0, 0.0)),
            (estimate(0.12, 0.006), estimate(0.0, 0.0)),
            (few, estimate(0.10, 0.008)),
            (estimate(0.10, 0.008), few),
        ] {
            assert!(Difference::between(&challenger, &control).is_none());
        }
        assert_eq!(estimate(0.5, 0.0).users_needed(0.05), None);
        assert_eq!(estimate(0.5, 1e-9).users_needed(0.05), Some(FEWEST_USERS));
    }

    #[test]
    fn splits_are_judged_exactly_however_few_users_there_are() {
        let p_value = |control, challenger, share| {
            let ratio = SampleRatio::of(control, challenger, share);
            ratio.unwrap().p_value
        };
        // 1 − 0.99⁵⁰ − 50 · 0.01 · 0.99⁴⁹ − 1225 · 0.01² · 0.99⁴⁸; a normal distribution has 0.0004 for it.
        close(p_value(47, 3, 0.01), 0.013_817_3, 1e-5);
        // Of ten tosses none or all are heads: 2 / 1024. Of 5 and 5 nothing is likelier.
        close(p_value(10, 0, 0.5), 2.0 / 1024.0, 1e-9);
        close(p_value(0, 10, 0.5), 2.0 / 1024.0, 1e-9);
        close(p_value(5, 5, 0.5), 1.0, 1e-9);
        // One of three is 3 · ¼ · (¾)², the likeliest with none: (¾)³, both 27/64.
        close(p_value(2, 1, 0.25), 1.0, 1e-9);
        close(p_value(1, 2, 0.25), 10.0 / 64.0, 1e-9);
        // Of many it is the normal distribution with half a user taken off: erfc(49.5 / √(10100 / 4) / √2).
        close(p_value(5000, 5100, 0.5), 0.324_6, 1e-3);
        assert!(!SampleRatio::of(5000, 5100, 0.5).unwrap().is_suspicious());
        assert!(SampleRatio::of(5000, 5500, 0.5).unwrap().is_suspicious());
        assert!(p_value(0, 10_000_000, 0.01) > 0.0);
        assert!(SampleRatio::of(0, 0, 0.5).is_none());
    }

    #[test]
    fn a_difference_at_any_time_by_hand() {
        let difference = |value| Difference {
            value,
            standard_error: 0.01,
            p_value: 0.0,
        };
        // V = τ² = 0.0001: √2 · exp(−θ² / 4V).
        for (value, expected) in [
            (0.01, 1.0),
            (0.03, 2_f64.sqrt() * (-2.25_f64).exp()),
            (-0.04, 2_f64.sqrt() * (-4_f64).exp()),
        ] {
            let found = difference(value).at_any_time(0.01).unwrap();
            close(found.p_value, expected, 1e-9);
            // 2 V (2 ln 20 + ln 2)
            close(found.high - value, 0.036_563_948_713_638, 1e-9);
            close(value - found.low, 0.036_563_948_713_638, 1e-9);
        }
        // At the end of the interval the chance is 5 %.
        let at_end = difference(0.036_563_948_713_638).at_any_time(0.01);
        close(at_end.unwrap().p_value, ALPHA, 1e-9);
        assert_eq!(difference(0.03).at_any_time(0.0), None);
    }

    /// A user's chance of liking varies from user to user, and so does how much they are shown.
    fn a_user(random: &mut Pcg64Mcg, rate: f64) -> (f64, f64) {
        let shown = random.random_range(1..20);
        let own = rate * 2.0 * random.random::<f64>();
        let liked = (0..shown).filter(|_| random.random::<f64>() < own).count();
        (liked as f64, f64::from(shown))
    }

    /// Of how many experiments with `looks`, at equal distances, one at least tells a difference: by the ordinary test, and by that for any time.
    fn told(rates: [f64; 2], relative: f64, users: usize, looks: usize) -> [usize; 2] {
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut told = [0; 2];
        for _ in 0..400 {
            let mut arms = [RatioSums::default(); 2];
            let mut tells = [false; 2];
            for _ in 0..looks {
                for (arm, rate) in arms.iter_mut().zip(rates) {
                    for _ in 0..users / looks {
                        let (liked, shown) = a_user(&mut random, rate);
                        arm.push(liked, shown);
                    }
                }
                let [control, challenger] = arms.map(|arm| arm.estimate().unwrap());
                let Some(found) = Difference::between(&challenger, &control) else {
                    continue;
                };
                let at_any_time = found.at_any_time(relative * control.value);
                tells[0] |= found.p_value < ALPHA;
                tells[1] |= at_any_time.is_some_and(|found| found.p_value < ALPHA);
            }
            for (told, tells) in told.iter_mut().zip(tells) {
                *told += usize::from(tells);
            }
        }
        told
    }

    #[test]
    fn who_looks_often_is_not_told_of_differences_that_are_none() {
        // 14 looks: far more than 20 of 400 by the ordinary test.
        let [ordinary, at_any_time] = told([0.1; 2], 0.05, 1400, 14);
        assert!(ordinary > 50, "{ordinary}");
        assert!(at_any_time <= 20, "{at_any_time}");
        // One that is there is told.
        let [_, found] = told([0.1, 0.2], 0.05, 700, 7);
        assert_eq!(found, 400);
    }

    #[test]
    fn users_needed_find_what_they_are_to_find() {
        let mut random = Pcg64Mcg::seed_from_u64(3);
        let mut sums = RatioSums::default();
        for _ in 0..20_000 {
            let (liked, shown) = a_user(&mut random, 0.2);
            sums.push(liked, shown);
        }
        let needed = sums.estimate().unwrap().users_needed(0.1).unwrap();
        let [_, found] = told([0.2, 0.22], 0.1, needed as usize, 1);
        // 320 of 400 with a standard deviation of 8, and some fewer, since the higher rate varies more.
        assert!((285..=345).contains(&found), "{found} with {needed}");
    }
}
