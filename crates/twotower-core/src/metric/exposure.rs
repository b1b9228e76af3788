/// The popularity of each video, from likes that a model has seen.
#[derive(Debug, Clone)]
pub struct PopularityScale {
    percentile: Vec<f64>,
    surprise: Vec<f64>,
}

impl PopularityScale {
    /// `like_counts` `[V]`: likes per video; `users`: number of users who gave them.
    pub fn new(like_counts: &[u32], users: usize) -> Self {
        let mut sorted = like_counts.to_vec();
        sorted.sort_unstable();
        let videos = like_counts.len() as f64;
        let percentile = |&count: &u32| {
            let below = sorted.partition_point(|&other| other < count);
            let not_above = sorted.partition_point(|&other| other <= count);
            (below + not_above) as f64 / (2.0 * videos)
        };
        // One more user who likes everything keeps the logarithm finite.
        let surprise = |&count: &u32| -((f64::from(count) + 1.0) / (users as f64 + 1.0)).log2();
        Self {
            percentile: like_counts.iter().map(percentile).collect(),
            surprise: like_counts.iter().map(surprise).collect(),
        }
    }

    /// Share of the catalogue with fewer likes than `item`, where videos with as many likes count
    /// one half; in 0..=1.
    pub fn percentile(&self, item: u32) -> f64 {
        self.percentile[item as usize]
    }

    /// Self-information of `item` in bits: -log₂ of the share of users who liked it (Vargas &
    /// Castells, Recommender Systems 2011), with one user added who likes everything.
    pub fn surprise(&self, item: u32) -> f64 {
        self.surprise[item as usize]
    }
}

/// Number of lists that each video is in.
#[derive(Debug, Clone)]
pub struct Exposure {
    counts: Vec<u32>,
}

impl Exposure {
    /// No lists yet, over `videos` V.
    pub fn new(videos: usize) -> Self {
        Self {
            counts: vec![0; videos],
        }
    }

    /// Counts one list.
    pub fn add(&mut self, list: &[u32]) {
        for &item in list {
            self.counts[item as usize] += 1;
        }
    }

    /// Share of the catalogue that is in at least one list; 0 for an empty catalogue.
    pub fn coverage(&self) -> f64 {
        let shown = self.counts.iter().filter(|&&count| count > 0).count();
        shown as f64 / self.counts.len().max(1) as f64
    }

    /// Gini coefficient of the counts over the whole catalogue: 0 if all videos are shown equally
    /// often, near 1 if one video gets everything; 0 if nothing is shown.
    pub fn gini(&self) -> f64 {
        let mut sorted = self.counts.clone();
        sorted.sort_unstable();
        let (mut total, mut weighted) = (0.0, 0.0);
        for (rank, &count) in sorted.iter().enumerate() {
            total += f64::from(count);
            weighted += (2.0 * (rank as f64 + 1.0) - sorted.len() as f64 - 1.0) * f64::from(count);
        }
        if total > 0.0 {
            weighted / (sorted.len() as f64 * total)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_scale_shares_ties() {
        let scale = PopularityScale::new(&[0, 3, 0, 7], 7);
        assert!((scale.percentile(0) - 0.25).abs() < 1e-12);
        assert!((scale.percentile(3) - 0.875).abs() < 1e-12);
        assert!(scale.surprise(3).abs() < 1e-12);
        assert!((scale.surprise(1) - 1.0).abs() < 1e-12);
        assert!((scale.surprise(0) - 3.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn gini_is_half_the_relative_mean_difference(list in prop::collection::vec(0u32..12, 1..60)) {
            let mut exposure = Exposure::new(12);
            exposure.add(&list);
            let counts = &exposure.counts;
            let differences: f64 = counts.iter().flat_map(|&a| counts.iter().map(move |&b| f64::from(a.abs_diff(b)))).sum();
            let expected = differences / (2.0 * 12.0 * list.len() as f64);
            prop_assert!((exposure.gini() - expected).abs() < 1e-12);
            let mut distinct = list.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert!((exposure.coverage() - distinct.len() as f64 / 12.0).abs() < 1e-12);
        }
    }
}
