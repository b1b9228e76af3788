//! The contract of every recommender, the towers and the baselines.

use crate::sample;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use twotower_core::baseline::{
    Ease, EaseOptions, Ials, IalsOptions, ItemKnn, ItemKnnOptions, Popularity,
};
use twotower_core::feature::{Preprocessing, PreprocessingOptions};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::{Dataset, History};
use twotower_core::model::{Model, TwoTower};
use twotower_core::recommend::{Recommender, Request, recommend};

/// Runs `check` on each recommender, fitted on one small data set.
fn for_each(check: impl Fn(&dyn Recommender)) {
    let dataset = sample::dataset(11);
    let (videos, likes) = (dataset.catalogue.len(), &dataset.likes);
    let model = random_model(&dataset);
    let two_tower = TwoTower {
        user_tower: &model.user_tower,
        videos: &model.embed_videos(dataset.catalogue.videos()).unwrap(),
    };
    check(&two_tower);
    check(&Popularity::fit(videos, likes));
    check(&ItemKnn::fit(videos, likes, &ItemKnnOptions::default()));
    check(&Ials::fit(videos, likes, &IalsOptions::default()));
    check(&Ease::fit(videos, likes, &EaseOptions::default()).unwrap());
}

fn random_model(dataset: &Dataset) -> Model {
    let hyperparameters = Hyperparameters {
        embedding_dim: 16,
        user_hidden: 24,
        item_hidden: 24,
        ..Hyperparameters::default()
    };
    let options = PreprocessingOptions {
        min_term_videos: 1,
        ngram_buckets: 64,
    };
    let preprocessing = Preprocessing::fit(&dataset.catalogue, |_| true, options);
    let mut model = Model::zeros(hyperparameters, preprocessing);
    let mut generator = Pcg64::seed_from_u64(1);
    for (_, _, weights) in model.tensors_mut() {
        for weight in weights {
            *weight = generator.random_range(-0.5..0.5);
        }
    }
    model
}

/// No history, only likes, only skips, both, and everything.
fn histories() -> Vec<(Vec<u32>, Vec<u32>)> {
    vec![
        (vec![], vec![]),
        (vec![3], vec![]),
        (vec![], vec![4, 9]),
        (vec![8, 2, 30, 59], vec![1, 0]),
        ((0..60).collect(), vec![]),
    ]
}

fn scores(recommender: &dyn Recommender, likes: &[u32], skips: &[u32]) -> Vec<f32> {
    let mut scores = vec![f32::NAN; recommender.items()];
    recommender.score(History { likes, skips }, &mut scores);
    scores
}

#[test]
fn ranks_the_catalogue_under_a_name_of_its_own() {
    let names = std::cell::RefCell::new(std::collections::BTreeSet::new());
    for_each(|recommender| {
        assert_eq!(recommender.items(), 60);
        assert_eq!(recommender.name(), recommender.name().to_lowercase());
        assert!(names.borrow_mut().insert(recommender.name().to_owned()));
    });
}

#[test]
fn every_score_is_written_and_finite() {
    for_each(|recommender| {
        for (likes, skips) in histories() {
            let scores = scores(recommender, &likes, &skips);
            assert!(
                scores.iter().all(|score| score.is_finite()),
                "{}",
                recommender.name()
            );
        }
    });
}

#[test]
fn nobody_goes_by_nothing_and_the_towers_go_by_skips() {
    for_each(|recommender| {
        let serves =
            |(likes, skips): &(Vec<u32>, Vec<u32>)| recommender.serves(History { likes, skips });
        let by_skips = recommender.name() == "two-tower";
        let expected = [false, true, by_skips, true, true];
        assert!(
            histories().iter().map(serves).eq(expected),
            "{}",
            recommender.name()
        );
    });
}

#[test]
fn the_same_history_gives_the_same_bits() {
    for_each(|recommender| {
        for (likes, skips) in histories() {
            let bits = || {
                scores(recommender, &likes, &skips)
                    .into_iter()
                    .map(f32::to_bits)
            };
            assert!(bits().eq(bits()), "{}", recommender.name());
        }
    });
}

#[test]
fn the_same_data_gives_the_same_recommender() {
    let all = || {
        let rows = std::cell::RefCell::new(Vec::new());
        for_each(|recommender| {
            rows.borrow_mut()
                .push(scores(recommender, &[8, 2, 30], &[5]));
        });
        rows.into_inner()
    };
    assert_eq!(all(), all());
}

#[test]
fn any_order_of_a_history_is_ranked() {
    for_each(|recommender| {
        for likes in [[8, 2, 30, 59], [59, 30, 2, 8], [30, 59, 8, 2]] {
            let scores = scores(recommender, &likes, &[]);
            assert!(
                scores.iter().all(|score| score.is_finite()),
                "{}",
                recommender.name()
            );
        }
    });
}

#[test]
fn recommends_what_is_not_excluded_as_much_as_there_is() {
    for_each(|recommender| {
        for (likes, skips) in histories() {
            for limit in [0, 1, 10, 57, 60, 100] {
                let history = History {
                    likes: &likes,
                    skips: &skips,
                };
                let extra = [7, 7, 2];
                let request = Request {
                    limit,
                    exclude: &[&likes, &extra],
                };
                let selection = recommend(recommender, history, &request);
                let mut items: Vec<u32> = selection.kept.iter().map(|scored| scored.item).collect();
                let excluded = |item: &u32| likes.contains(item) || extra.contains(item);
                let removed = (0..60).filter(excluded).count();
                assert_eq!(selection.removed, removed);
                assert_eq!(
                    items.len(),
                    limit.min(60 - removed),
                    "{}",
                    recommender.name()
                );
                assert!(!items.iter().any(excluded));
                assert!(items.iter().all(|&item| item < 60));
                assert!(
                    selection
                        .kept
                        .windows(2)
                        .all(|pair| pair[0].best_first(&pair[1]).is_lt())
                );
                items.sort_unstable();
                items.dedup();
                assert_eq!(items.len(), selection.kept.len(), "nothing comes twice");
            }
        }
    });
}

/// Users of one taste like videos of the same parity, so that the history determines the taste.
#[test]
fn those_that_learn_from_likes_find_the_taste() {
    let dataset = sample::dataset(11);
    let likes = &dataset.likes;
    let knn = ItemKnn::fit(60, likes, &ItemKnnOptions::default());
    let ials = Ials::fit(60, likes, &IalsOptions::default());
    for recommender in [&knn as &dyn Recommender, &ials] {
        let request = Request {
            limit: 10,
            exclude: &[&[3, 5, 9]],
        };
        let history = History {
            likes: &[3, 5, 9],
            skips: &[],
        };
        let selection = recommend(recommender, history, &request);
        let odd = selection
            .kept
            .iter()
            .filter(|scored| scored.item % 2 == 1)
            .count();
        assert!(odd >= 9, "{}: {odd} of 10", recommender.name());
    }
}
