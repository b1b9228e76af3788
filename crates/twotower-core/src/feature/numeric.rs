use super::video::VideoRef;
use crate::time::DAY_US;
use serde::{Deserialize, Serialize};

/// Number of numeric features of a video: price, duration, publication.
pub const NUMERIC_FEATURES: usize = 3;

/// Mean and standard deviation of one numeric feature over the videos that have it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NumericStatistics {
    /// Mean.
    pub mean: f32,
    /// Standard deviation. Where it would be 0 it is 1, for publication 30.
    pub std: f32,
    /// Number of videos that have it; `None` in models that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A smaller standard deviation counts as 0. Units: logarithms, and days.
const LEAST_STD: [f64; NUMERIC_FEATURES] = [1e-3, 1e-3, 1.0];

/// Replaces a standard deviation of 0. For publication it is a month, so that next week's video is
/// not at the end of the scale.
const ALIKE_STD: [f32; NUMERIC_FEATURES] = [1.0, 1.0, 30.0];

impl NumericStatistics {
    /// Statistics of the `values` of `feature`.
    pub(super) fn of(feature: usize, values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().fold(0.0, |sum, x| sum + x) / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let std = match variance.sqrt() {
            std if std < LEAST_STD[feature] => ALIKE_STD[feature],
            std => std as f32,
        };
        Self {
            mean: mean as f32,
            std,
            count: Some(values.len() as u64),
        }
    }

    /// Whether any video had `feature`, which these statistics are of.
    pub(super) fn has_values(self, feature: usize) -> bool {
        match self.count {
            Some(count) => count > 0,
            // The statistics of no values.
            None => self.mean.to_bits() != 0 || self.std.to_bits() != ALIKE_STD[feature].to_bits(),
        }
    }
}

/// Price, duration and publication, transformed but not standardised.
pub(super) fn raw_numeric(video: VideoRef<'_>) -> [Option<f64>; NUMERIC_FEATURES] {
    let log = |x: Option<f32>| {
        x.filter(|x| x.is_finite() && *x >= 0.0)
            .map(|x| f64::from(x).ln_1p())
    };
    [
        log(video.price),
        log(video.duration_seconds),
        video.published_at_us.map(|at| at as f64 / DAY_US as f64),
    ]
}
