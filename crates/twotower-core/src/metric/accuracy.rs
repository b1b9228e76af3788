/// Precision@K: hits among the first `k`, divided by `k`, even if the list is shorter.
///
/// `hits`: whether the video at each rank, best first, is a target. Ties are broken when the list
/// is made.
pub fn precision_at_k(hits: &[bool], k: usize) -> f64 {
    ratio(count(hits, k), k)
}

/// Recall@K: hits among the first `k`, divided by the number of `targets` (not by min(k, targets)).
///
/// `hits`: whether the video at each rank, best first, is a target. Ties are broken when the list
/// is made.
pub fn recall_at_k(hits: &[bool], targets: usize, k: usize) -> f64 {
    ratio(count(hits, k), targets)
}

/// NDCG@K with binary relevance (Järvelin & Kekäläinen 2002): Σ 1/log₂(rank + 1) over the hits
/// among the first `k`, divided by that sum over the ranks 1..=min(k, targets).
///
/// `hits`: whether the video at each rank, best first, is a target. Ties are broken when the list
/// is made.
pub fn ndcg_at_k(hits: &[bool], targets: usize, k: usize) -> f64 {
    let ideal: f64 = (0..k.min(targets)).map(discount).sum();
    let found: f64 = hits
        .iter()
        .take(k)
        .enumerate()
        .filter(|&(_, &hit)| hit)
        .map(|(rank, _)| discount(rank))
        // An empty sum is -0.
        .fold(0.0, |sum, gain| sum + gain);
    if ideal > 0.0 { found / ideal } else { 0.0 }
}

/// `rank` counted from 0.
fn discount(rank: usize) -> f64 {
    1.0 / (rank as f64 + 2.0).log2()
}

fn count(hits: &[bool], k: usize) -> usize {
    hits.iter().take(k).filter(|&&hit| hit).count()
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_target_at_rank_three() {
        let hits = [false, false, true, false];
        assert!((precision_at_k(&hits, 10) - 0.1).abs() < 1e-12);
        assert!((recall_at_k(&hits, 1, 10) - 1.0).abs() < 1e-12);
        assert!((ndcg_at_k(&hits, 1, 10) - 0.5).abs() < 1e-12);
        assert!(ndcg_at_k(&hits, 1, 2).abs() < 1e-12);
    }

    #[test]
    fn recall_divides_by_all_targets() {
        assert!((recall_at_k(&[true; 10], 40, 10) - 0.25).abs() < 1e-12);
        assert!((ndcg_at_k(&[true; 10], 40, 10) - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn ndcg_is_its_definition(hits in prop::collection::vec(any::<bool>(), 0..30), more in 0usize..5, k in 1usize..25) {
            let targets = hits.iter().filter(|&&hit| hit).count() + more;
            let gain = |r: usize| 1.0 / ((r + 1) as f64).ln() * std::f64::consts::LN_2;
            let (mut found, mut ideal) = (0.0, 0.0);
            for r in 1..=k {
                if hits.get(r - 1) == Some(&true) { found += gain(r); }
                if r <= targets { ideal += gain(r); }
            }
            let expected = if targets == 0 { 0.0 } else { found / ideal };
            let ndcg = ndcg_at_k(&hits, targets, k);
            prop_assert!((ndcg - expected).abs() < 1e-9);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&ndcg));
        }
    }
}
