/// Exact AUC of one user: the mean over targets p of `(#{n: s_n < s_p} + ½ #{n: s_n = s_p}) / |N|`,
/// where N are the candidates that are not targets. A tie counts one half. `None` without targets,
/// or without anything to compare them with.
///
/// `scores` `[V]`, finite; `excluded` `[V]`, true where a video is no candidate; `targets`:
/// distinct candidates. O(V log |targets|).
pub fn auc(scores: &[f32], excluded: &[bool], targets: &[u32]) -> Option<f64> {
    let mut sorted: Vec<f32> = targets.iter().map(|&item| scores[item as usize]).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let mut candidates = 0;
    // Twice the sum over p and over all candidates, targets included: a pair won counts 2 and a tie
    // 1.
    let mut points = 0;
    for (&score, &out) in scores.iter().zip(excluded) {
        if !out {
            candidates += 1;
            points += lost_to(&sorted, score);
        }
    }
    let among_targets: u64 = sorted.iter().map(|&score| lost_to(&sorted, score)).sum();
    let pairs = (candidates - targets.len()) as u64 * targets.len() as u64;
    (pairs > 0).then(|| (points - among_targets) as f64 / (2 * pairs) as f64)
}

/// Twice the number of targets that score higher than `score`, plus the number of those that tie.
fn lost_to(sorted: &[f32], score: f32) -> u64 {
    let below = sorted.partition_point(|&target| target < score);
    let not_above = below + sorted[below..].partition_point(|&target| target <= score);
    (2 * (sorted.len() - not_above) + (not_above - below)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_ties_are_one_half() {
        assert_eq!(auc(&[0.0; 5], &[false; 5], &[1, 3]), Some(0.5));
    }

    #[test]
    fn nothing_to_compare_with() {
        assert_eq!(auc(&[0.0, 1.0], &[true, false], &[1]), None);
        assert_eq!(auc(&[0.0, 1.0], &[false, false], &[]), None);
    }

    proptest! {
        #[test]
        fn auc_is_its_definition(rows in prop::collection::vec((-4i8..4, 0u8..4), 1..80)) {
            // 0: seen, 1: target, otherwise neither.
            let scores: Vec<f32> = rows.iter().map(|row| f32::from(row.0)).collect();
            let excluded: Vec<bool> = rows.iter().map(|row| row.1 == 0).collect();
            let targets: Vec<u32> = (0..rows.len() as u32).filter(|&i| rows[i as usize].1 == 1).collect();
            let others: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].1 > 1).collect();
            let expected = (!targets.is_empty() && !others.is_empty()).then(|| {
                targets.iter().map(|&p| {
                    let s = scores[p as usize];
                    let less = others.iter().filter(|&&n| scores[n] < s).count() as f64;
                    let equal = others.iter().filter(|&&n| scores[n].total_cmp(&s).is_eq()).count() as f64;
                    (less + 0.5 * equal) / others.len() as f64
                }).sum::<f64>() / targets.len() as f64
            });
            match (auc(&scores, &excluded, &targets), expected) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}
