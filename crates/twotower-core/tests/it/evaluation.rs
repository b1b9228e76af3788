use crate::sample;
use proptest::prelude::*;
use twotower_core::baseline::Popularity;
use twotower_core::evaluate::{
    EvaluationError, Metric, evaluate, paired_bootstrap, quick_evaluate,
};
use twotower_core::interaction::History;
use twotower_core::metric::Bootstrap;
use twotower_core::recommend::{Recommender, Request, recommend};
use twotower_core::split::{HeldOut, HeldOutUser, Phase, Split, SplitKind};

/// Scores that depend on the history, with many ties.
struct Hashed(usize);

impl Recommender for Hashed {
    fn name(&self) -> &'static str {
        "hashed"
    }

    fn items(&self) -> usize {
        self.0
    }

    fn score(&self, history: History<'_>, scores: &mut [f32]) {
        let salt: u32 = history.likes.iter().sum();
        for (item, score) in scores.iter_mut().enumerate() {
            *score = ((item as u32 + salt).wrapping_mul(2_654_435_761) >> 28) as f32;
        }
    }
}

/// The protocol, literally, by a full sort.
fn naive(recommender: &dyn Recommender, user: &HeldOutUser) -> [f64; 7] {
    let mut scores = vec![0.0; recommender.items()];
    recommender.score(user.history(), &mut scores);
    let mut order: Vec<u32> = (0..scores.len() as u32)
        .filter(|item| !user.likes.contains(item))
        .collect();
    order.sort_by(|&a, &b| {
        let (x, y) = (scores[a as usize], scores[b as usize]);
        y.partial_cmp(&x).unwrap().then(a.cmp(&b))
    });
    let targets = user.targets.len();
    let is_target = |item: &u32| user.targets.contains(item);
    let hits = |k: usize| order.iter().take(k).filter(|item| is_target(item)).count() as f64;
    let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
    let ndcg = |k: usize| {
        let found: f64 = (1..=k.min(order.len()))
            .filter(|&rank| is_target(&order[rank - 1]))
            .map(gain)
            .sum();
        found / (1..=k.min(targets)).map(gain).sum::<f64>()
    };
    let others: Vec<u32> = order.iter().copied().filter(|n| !is_target(n)).collect();
    let auc = user.targets.iter().map(|&p| {
        let points =
            others.iter().map(
                |&n| match scores[n as usize].partial_cmp(&scores[p as usize]) {
                    Some(std::cmp::Ordering::Less) => 1.0,
                    Some(std::cmp::Ordering::Equal) => 0.5,
                    _ => 0.0,
                },
            );
        points.sum::<f64>() / others.len() as f64
    });
    let n = targets as f64;
    [
        ndcg(10),
        ndcg(20),
        hits(10) / 10.0,
        hits(10) / n,
        hits(20) / n,
        hits(50) / n,
        auc.sum::<f64>() / n,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_user_is_ranked_as_the_protocol_says(seed in any::<u64>(), llo in any::<bool>()) {
        let dataset = sample::dataset(seed);
        let kind = if llo { SplitKind::Llo } else { SplitKind::Temporal };
        let split = Split::new(&dataset, kind);
        let held_out = split.held_out_users(Phase::Test);
        let popularity = Popularity::fit(dataset.catalogue.len(), &split.seen(Phase::Test));
        let hashed = Hashed(dataset.catalogue.len());
        let evaluation = evaluate(&hashed, &popularity, &held_out, &Bootstrap::default()).unwrap();
        prop_assert_eq!(evaluation.users.len(), held_out.users.len());
        for (row, user) in evaluation.users.iter().zip(&held_out.users) {
            prop_assert_eq!(row.warm, !user.likes.is_empty());
            let is_served = hashed.serves(user.history());
            prop_assert_eq!(row.served, is_served);
            let ranked: &dyn Recommender = if is_served { &hashed } else { &popularity };
            for (a, b) in row.metrics.iter().zip(naive(ranked, user)) {
                prop_assert!((a - b).abs() < 1e-12, "{a} is not {b}");
            }
            let request = Request { limit: 10, exclude: &[&user.likes] };
            let served: Vec<u32> = recommend(ranked, user.history(), &request).kept.iter().map(|s| s.item).collect();
            prop_assert_eq!(&row.top, &served);
        }
        let mean = |metric| evaluation.users.iter().map(|u| u.metric(metric)).sum::<f64>() / evaluation.users.len() as f64;
        for metric in Metric::ALL {
            prop_assert!((evaluation.summary.all.metric(metric).mean - mean(metric)).abs() < 1e-12);
        }
    }
}

#[test]
fn cohorts_split_the_users_and_cold_ones_are_served_by_popularity() {
    let dataset = sample::dataset(7);
    let split = Split::new(&dataset, SplitKind::Temporal);
    let mut held_out = split.held_out_users(Phase::Validation);
    held_out.users[0].likes.clear();
    let popularity = Popularity::fit(60, &split.seen(Phase::Validation));
    let bootstrap = Bootstrap::default();
    let ours = evaluate(&Hashed(60), &popularity, &held_out, &bootstrap).unwrap();
    let theirs = evaluate(&popularity, &popularity, &held_out, &bootstrap).unwrap();
    let (warm, cold) = (ours.summary.warm.unwrap(), ours.summary.cold.unwrap());
    assert_eq!(warm.users + cold.users, ours.summary.all.users);
    assert_eq!(ours.summary.cold, theirs.summary.cold);
    assert_ne!(ours.summary.warm, theirs.summary.warm);
    assert!(theirs.summary.all.popularity_percentile_at_10 > 0.7);
    assert!(theirs.summary.all.coverage_at_10 < ours.summary.all.coverage_at_10);
    assert!(theirs.summary.all.exposure_gini_at_10 > ours.summary.all.exposure_gini_at_10);
    assert!(theirs.summary.all.novelty_at_10 < ours.summary.all.novelty_at_10);
}

/// As `serve` and `update` use the towers: by skips, if there is nothing else.
#[test]
fn users_who_have_only_skipped_are_ranked_by_who_goes_by_skips() {
    struct BySkips;
    impl Recommender for BySkips {
        fn name(&self) -> &'static str {
            "by skips"
        }
        fn items(&self) -> usize {
            60
        }
        fn serves(&self, history: History<'_>) -> bool {
            !history.skips.is_empty()
        }
        fn score(&self, history: History<'_>, scores: &mut [f32]) {
            let likes = history.skips;
            let skips = history.likes;
            Hashed(60).score(History { likes, skips }, scores);
        }
    }
    let split = Split::new(&sample::dataset(7), SplitKind::Llo);
    let mut held_out = split.held_out_users(Phase::Test);
    let [skipped, nothing, ..] = &mut held_out.users[..] else {
        panic!("two users");
    };
    skipped.likes.clear();
    skipped.skips = vec![3, 8];
    (nothing.likes, nothing.skips) = (Vec::new(), Vec::new());
    let popularity = Popularity::fit(60, &split.seen(Phase::Test));
    let bootstrap = Bootstrap::default();
    let ours = evaluate(&BySkips, &popularity, &held_out, &bootstrap).unwrap();
    let theirs = evaluate(&popularity, &popularity, &held_out, &bootstrap).unwrap();
    assert!(!ours.users[0].warm && !ours.users[1].warm);
    assert!(ours.users[0].served && !ours.users[1].served && !theirs.users[0].served);
    let expected = naive(&BySkips, &held_out.users[0]);
    for (metric, expected) in ours.users[0].metrics.iter().zip(expected) {
        assert!((metric - expected).abs() < 1e-12);
    }
    assert_ne!(ours.users[0].top, theirs.users[0].top);
    assert_eq!(ours.users[1], theirs.users[1]);
}

#[test]
fn a_recommender_does_not_differ_from_itself() {
    let dataset = sample::dataset(3);
    let split = Split::new(&dataset, SplitKind::Llo);
    let held_out = split.held_out_users(Phase::Test);
    let popularity = Popularity::fit(60, &split.seen(Phase::Test));
    let bootstrap = Bootstrap::default();
    let a = evaluate(&popularity, &popularity, &held_out, &bootstrap).unwrap();
    let same = paired_bootstrap(&a, &a, Metric::NdcgAt10, &bootstrap).unwrap();
    assert!(!same.excludes_zero());
    let half = HeldOut {
        users: held_out.users[1..].to_vec(),
    };
    let b = evaluate(&popularity, &popularity, &half, &bootstrap).unwrap();
    assert!(paired_bootstrap(&a, &b, Metric::NdcgAt10, &bootstrap).is_err());
}

#[test]
fn a_quick_evaluation_of_all_users_agrees_with_the_full_one() {
    let dataset = sample::dataset(5);
    let split = Split::new(&dataset, SplitKind::Llo);
    let held_out = split.held_out_users(Phase::Test);
    let popularity = Popularity::fit(60, &split.seen(Phase::Test));
    let hashed = Hashed(60);
    let full = evaluate(&hashed, &popularity, &held_out, &Bootstrap::default()).unwrap();
    let quick = quick_evaluate(&hashed, &held_out, usize::MAX).unwrap();
    let all = full.summary.all;
    assert_eq!(quick.users, all.users);
    assert!((quick.ndcg_at_10 - all.ndcg_at_10.mean).abs() < 1e-12);
    assert!((quick.recall_at_20 - all.recall_at_20.mean).abs() < 1e-12);
    assert_eq!(quick_evaluate(&hashed, &held_out, 3).unwrap().users, 3);
}

#[test]
fn summaries_have_stable_keys() {
    let dataset = sample::dataset(5);
    let split = Split::new(&dataset, SplitKind::Llo);
    let held_out = split.held_out_users(Phase::Test);
    let popularity = Popularity::fit(60, &split.seen(Phase::Test));
    let summary = evaluate(&popularity, &popularity, &held_out, &Bootstrap::default())
        .unwrap()
        .summary;
    let json = serde_json::to_value(summary).unwrap();
    assert!(json["cold"].is_null());
    for metric in Metric::ALL {
        let estimate = &json["all"][metric.key()];
        assert!(estimate["mean"].is_number() && estimate["standard_error"].is_number());
    }
    assert_eq!(
        serde_json::to_value(Metric::NdcgAt20).unwrap(),
        "ndcg_at_20"
    );
    assert_eq!(
        serde_json::from_value::<twotower_core::evaluate::Summary>(json).unwrap(),
        summary
    );
}

#[test]
fn scores_that_are_not_finite_are_refused() {
    struct Diverged;
    impl Recommender for Diverged {
        fn name(&self) -> &'static str {
            "diverged"
        }
        fn items(&self) -> usize {
            60
        }
        fn score(&self, _: History<'_>, scores: &mut [f32]) {
            scores.fill(f32::NAN);
        }
    }
    let split = Split::new(&sample::dataset(5), SplitKind::Llo);
    let held_out = split.held_out_users(Phase::Test);
    let popularity = Popularity::fit(60, &split.seen(Phase::Test));
    let error = EvaluationError::NotFinite {
        name: "diverged".to_owned(),
    };
    assert_eq!(
        evaluate(&Diverged, &popularity, &held_out, &Bootstrap::default()),
        Err(error)
    );
    assert!(quick_evaluate(&Diverged, &held_out, 10).is_err());
}
