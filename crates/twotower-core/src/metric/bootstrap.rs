use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// One in this many resampled means lies below a 95 % interval, and as many above it.
pub(crate) const ONE_IN: usize = 40;

/// A mean over users and its precision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Unweighted mean over users.
    pub mean: f64,
    /// Standard deviation of the mean over bootstrap resamples of the users.
    pub standard_error: f64,
}

/// A mean and the 95 % percentile interval of its bootstrap resamples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean over users.
    pub mean: f64,
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile of the resampled means.
    pub high: f64,
}

impl Interval {
    /// Whether the interval lies on one side of zero, as it must for a significant difference.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The bootstrap over users (Efron 1979): users are drawn with replacement, as many as there are.
///
/// Each resample has its own generator, seeded by `seed` and its number, so that neither threads
/// nor other columns affect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 1000,
            seed: 42,
        }
    }
}

impl Bootstrap {
    /// Mean and standard error of each column of `rows`, one row per user; zeros without rows.
    pub fn estimates<const N: usize>(&self, rows: &[[f64; N]]) -> [Estimate; N] {
        let centre = mean(rows);
        let resampled = self.means(rows);
        let n = resampled.len().max(2) as f64;
        std::array::from_fn(|column| {
            let average = resampled.iter().map(|means| means[column]).sum::<f64>() / n;
            let squares: f64 = resampled
                .iter()
                .map(|means| (means[column] - average).powi(2))
                .sum();
            Estimate {
                mean: centre[column],
                standard_error: (squares / (n - 1.0)).sqrt(),
            }
        })
    }

    /// Mean of `values`, one per user, with the 95 % percentile interval; zeros without values.
    pub fn interval(&self, values: &[f64]) -> Interval {
        self.interval_within(values, ONE_IN, ONE_IN)
    }

    /// The same interval such that one in `below` resampled means lies below it, and one in `above`
    /// above it.
    pub(crate) fn interval_within(&self, values: &[f64], below: usize, above: usize) -> Interval {
        let rows: Vec<[f64; 1]> = values.iter().map(|&value| [value]).collect();
        let mut means: Vec<f64> = self.means(&rows).into_iter().map(|[mean]| mean).collect();
        means.sort_unstable_by(f64::total_cmp);
        let [mean] = mean(&rows);
        let (low, high) = (means.len() / below, means.len() / above);
        Interval {
            mean,
            low: means.get(low).copied().unwrap_or(mean),
            high: means.iter().rev().nth(high).copied().unwrap_or(mean),
        }
    }

    /// The mean of each column in each resample.
    fn means<const N: usize>(&self, rows: &[[f64; N]]) -> Vec<[f64; N]> {
        if rows.is_empty() {
            return vec![[0.0; N]; self.resamples];
        }
        let users = rows.len() as u64;
        (0..self.resamples)
            .into_par_iter()
            .map(|resample| {
                let mut generator = Pcg64::seed_from_u64(self.seed.wrapping_add(resample as u64));
                let mut sums = [0.0; N];
                for _ in 0..rows.len() {
                    // Multiply and shift: the bias is below users / 2^32.
                    let user = (u64::from(generator.next_u32()) * users) >> 32;
                    for (sum, x) in sums.iter_mut().zip(&rows[user as usize]) {
                        *sum += x;
                    }
                }
                sums.map(|sum| sum / users as f64)
            })
            .collect()
    }
}

fn mean<const N: usize>(rows: &[[f64; N]]) -> [f64; N] {
    let mut sums = [0.0; N];
    for row in rows {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    sums.map(|sum| sum / rows.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For 0/1 values with mean q over n users, the σ of the mean is √(q (1 - q) / n).
    #[test]
    fn standard_error_and_interval_of_a_share() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let rows: Vec<[f64; 2]> = values.iter().map(|&value| [value, 1.0]).collect();
        let expected = (0.25f64 * 0.75 / 400.0).sqrt();
        let [share, constant] = Bootstrap::default().estimates(&rows);
        assert!((share.mean - 0.25).abs() < 1e-12);
        assert!((share.standard_error / expected - 1.0).abs() < 0.1);
        assert!((constant.mean - 1.0).abs() + constant.standard_error < 1e-12);
        let interval = Bootstrap::default().interval(&values);
        assert!((interval.low - (0.25 - 1.96 * expected)).abs() < 0.3 * expected);
        assert!((interval.high - (0.25 + 1.96 * expected)).abs() < 0.3 * expected);
        assert!(interval.excludes_zero());
    }

    #[test]
    fn the_same_seed_gives_the_same_bits() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.interval(&values), bootstrap.interval(&values));
        let other = Bootstrap {
            seed: 1,
            ..bootstrap
        };
        assert_ne!(bootstrap.interval(&values), other.interval(&values));
    }

    #[test]
    fn no_user_gives_zeros() {
        let [estimate] = Bootstrap::default().estimates::<1>(&[]);
        assert_eq!((estimate.mean, estimate.standard_error), (0.0, 0.0));
        assert!(!Bootstrap::default().interval(&[]).excludes_zero());
    }
}
