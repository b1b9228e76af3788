//! Properties of training as a whole.

mod elsewhere;

mod gate;

mod going_on;

mod uploads;

use rand::distr::{Distribution, weighted::WeightedIndex};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use twotower_core::baseline::Popularity;
use twotower_core::evaluate::{evaluate, quick_evaluate};
use twotower_core::feature::{Catalogue, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::kernel;
use twotower_core::metric::Bootstrap;
use twotower_core::model::{Model, TwoTower};
use twotower_core::recommend::Recommender;
use twotower_core::split::{HeldOut, Phase, Split, SplitKind};
use twotower_core::train::{Goal, Progress, Run, TrainError, Trained, TrainingData};
use uuid::Uuid;

const GENRES: u32 = 16;
const VIDEOS_PER_GENRE: u32 = 60;
const USERS: u32 = 500;

/// Users go through the genres in a circle, so that the last like determines the genre of the next;
/// within a genre a few videos get most likes. The last two videos of each genre are never liked.
fn dataset(seed: u64) -> Dataset {
    let mut generator = Pcg64::seed_from_u64(seed);
    let videos = (0..GENRES * VIDEOS_PER_GENRE).map(|item| Video {
        id: Uuid::from_u128(u128::from(item) + 1),
        title: format!("video {}", item * 7919 % 1000),
        genre: Some(format!("genre {}", item % GENRES)),
        ..Video::default()
    });
    let weights = (1..VIDEOS_PER_GENRE - 1).map(|rank| 1.0 / f64::from(rank).powf(1.3));
    let rank = WeightedIndex::new(weights).unwrap();
    let (mut likes, mut skips): (Vec<Interaction>, Vec<Interaction>) = (Vec::new(), Vec::new());
    for at in 0..10 {
        for user in 0..USERS {
            let noise = generator.random_bool(0.1);
            let genre = if noise {
                generator.random_range(0..GENRES)
            } else {
                (user + at) % GENRES
            };
            let item = rank.sample(&mut generator) as u32 * GENRES + genre;
            let of_another = generator.random_range(0..GENRES * (VIDEOS_PER_GENRE - 2));
            for (rows, item, probability) in
                [(&mut likes, item, 1.0), (&mut skips, of_another, 0.3)]
            {
                let again = rows.iter().any(|row| (row.user, row.item) == (user, item));
                if !again && generator.random_bool(probability) {
                    rows.push(Interaction { user, item, at });
                }
            }
        }
    }
    Dataset {
        catalogue: Catalogue::new(videos).unwrap(),
        users: USERS as usize,
        likes,
        skips,
    }
}

fn hyperparameters() -> Hyperparameters {
    Hyperparameters {
        embedding_dim: 16,
        user_hidden: 32,
        item_hidden: 32,
        batch_size: 256,
        epochs: 8,
        patience: 8,
        negatives: 128,
        min_users: 1,
        ngram_buckets: 64,
        learning_rate: 5e-3,
        table_learning_rate: 0.1,
        input_dropout: 0.1,
        hidden_dropout: 0.1,
        ..Hyperparameters::default()
    }
}

/// Trains until `goal` is reached.
fn train(
    data: TrainingData<'_>,
    hyperparameters: &Hyperparameters,
    goal: Goal<'_>,
) -> Result<Trained, TrainError> {
    let mut run = Run::new(data, hyperparameters, goal)?;
    while run.advance()?.is_some() {}
    Ok(run.finish())
}

/// A data set, its leave-last-out split and its validation part.
struct Sample {
    dataset: Dataset,
    split: Split,
    skips: Vec<Interaction>,
    held_out: HeldOut,
}

impl Sample {
    fn new(seed: u64) -> Self {
        Self::of(dataset(seed))
    }

    fn of(dataset: Dataset) -> Self {
        let split = Split::new(&dataset, SplitKind::Llo);
        Self {
            skips: split.seen_skips(Phase::Validation),
            held_out: split.held_out_users(Phase::Validation),
            split,
            dataset,
        }
    }

    fn data(&self) -> TrainingData<'_> {
        TrainingData::held(
            &self.dataset.catalogue,
            self.dataset.users,
            &self.split.train[..],
            &self.skips[..],
        )
    }

    fn train(&self, hyperparameters: &Hyperparameters) -> Result<Trained, TrainError> {
        train(self.data(), hyperparameters, Goal::Best(&self.held_out))
    }

    fn ndcg_at_10(&self, recommender: &dyn Recommender) -> f64 {
        quick_evaluate(recommender, &self.held_out, usize::MAX)
            .unwrap()
            .ndcg_at_10
    }

    /// Result of `measure` for the towers of `model`.
    fn of_towers<T>(&self, model: &Model, measure: impl FnOnce(&TwoTower<'_>) -> T) -> T {
        let videos = model.embed_videos(self.dataset.catalogue.videos()).unwrap();
        measure(&TwoTower {
            user_tower: &model.user_tower,
            videos: &videos,
        })
    }

    fn ndcg_of_model(&self, model: &Model) -> f64 {
        self.of_towers(model, |towers| self.ndcg_at_10(towers))
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let sample = Sample::new(1);
    let bytes = |threads: usize, seed: u64| {
        let hyperparameters = Hyperparameters {
            epochs: 2,
            seed,
            ..hyperparameters()
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let trained = pool.install(|| sample.train(&hyperparameters)).unwrap();
        trained.model.to_safetensors().unwrap()
    };
    let one = bytes(1, 5);
    for threads in [1, 2, 3] {
        assert!(
            one == bytes(threads, 5),
            "{threads} threads give another model"
        );
    }
    assert!(one != bytes(1, 6), "the seed counts");
}

#[test]
fn log_q_ranks_better_when_negatives_come_from_the_batch_alone() {
    let sample = Sample::new(2);
    let ndcg = |log_q: bool| {
        let hyperparameters = Hyperparameters {
            negatives: 0,
            log_q,
            ..hyperparameters()
        };
        sample.ndcg_of_model(&sample.train(&hyperparameters).unwrap().model)
    };
    let (with, without) = (ndcg(true), ndcg(false));
    assert!(
        with > 1.5 * without,
        "NDCG@10 {with} with, {without} without"
    );
}

#[test]
fn popularity_moves_popular_videos_up_and_down() {
    let sample = Sample::new(2);
    let popular = Popularity::fit(sample.dataset.catalogue.len(), &sample.split.train);
    let [rarer, as_liked, more_popular] = [-0.5, 0.0, 0.5].map(|popularity| {
        let hyperparameters = Hyperparameters {
            popularity,
            ..hyperparameters()
        };
        let model = sample.train(&hyperparameters).unwrap().model;
        sample.of_towers(&model, |towers| {
            let options = Bootstrap::default();
            let evaluation = evaluate(towers, &popular, &sample.held_out, &options).unwrap();
            evaluation.summary.all.popularity_percentile_at_10
        })
    });
    assert!(
        rarer + 0.01 < as_liked && as_liked + 0.01 < more_popular,
        "mean percentile of videos shown: {rarer}, {as_liked}, {more_popular}"
    );
}

#[test]
fn the_towers_find_what_popularity_cannot() {
    let sample = Sample::new(3);
    let trained = sample.train(&hyperparameters()).unwrap();
    let popularity = Popularity::fit(sample.dataset.catalogue.len(), &sample.split.train);
    let (ours, theirs) = (
        sample.ndcg_of_model(&trained.model),
        sample.ndcg_at_10(&popularity),
    );
    assert!(ours > 2.0 * theirs, "NDCG@10 {ours}, popularity {theirs}");
}

#[test]
fn a_video_nobody_has_liked_stands_near_those_of_its_genre() {
    let sample = Sample::new(4);
    let model = sample.train(&hyperparameters()).unwrap().model;
    let new: Vec<Video> = (0..GENRES)
        .map(|genre| Video {
            id: Uuid::from_u128(u128::from(genre) + 1_000_000),
            title: "video".to_owned(),
            genre: Some(format!("genre {genre}")),
            ..Video::default()
        })
        .collect();
    let new = model.embed_videos(&new).unwrap();
    let known = model
        .embed_videos(sample.dataset.catalogue.videos())
        .unwrap();
    for genre in 0..GENRES {
        let mean = |of: u32| {
            let items = (0..VIDEOS_PER_GENRE).map(|rank| (rank * GENRES + of) as usize);
            let scores = items.map(|item| kernel::dot(new.row(genre as usize), known.row(item)));
            scores.sum::<f32>() / VIDEOS_PER_GENRE as f32
        };
        let own = mean(genre);
        for other in (0..GENRES).filter(|&other| other != genre) {
            assert!(
                own > mean(other) + 0.1,
                "genre {genre}: {own}, {} to {other}",
                mean(other)
            );
        }
    }
}

#[test]
fn the_best_epoch_is_kept_and_training_stops_when_it_gets_no_better() {
    let sample = Sample::new(5);
    let patience = 2;
    let hyperparameters = Hyperparameters {
        epochs: 60,
        patience,
        table_learning_rate: 0.5,
        input_dropout: 0.0,
        hidden_dropout: 0.0,
        ..hyperparameters()
    };
    let trained = sample.train(&hyperparameters).unwrap();
    let scores: Vec<f64> = trained
        .epochs
        .iter()
        .map(|epoch| epoch.validation.unwrap().ndcg_at_10)
        .collect();
    assert_eq!(
        scores.len(),
        trained.best_epoch + patience,
        "stopped early, after patience"
    );
    assert!(scores.len() < 60);
    let best = scores[trained.best_epoch - 1];
    assert!(
        scores[..trained.best_epoch - 1]
            .iter()
            .all(|&score| score < best)
    );
    assert!(
        scores[trained.best_epoch..]
            .iter()
            .all(|&score| score <= best)
    );
    assert!((sample.ndcg_of_model(&trained.model) - best).abs() < 1e-12);
    let epochs: Vec<usize> = trained.epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(epochs, (1..=scores.len()).collect::<Vec<_>>());
}

#[test]
fn without_validation_all_epochs_are_run_and_the_loss_falls() {
    let sample = Sample::new(6);
    let hyperparameters = Hyperparameters {
        epochs: 4,
        patience: 1,
        ..hyperparameters()
    };
    let (mut steps, mut epochs) = (0, 0);
    let mut run = Run::new(sample.data(), &hyperparameters, Goal::Epochs(4)).unwrap();
    while let Some(progress) = run.advance().unwrap() {
        match progress {
            Progress::Step {
                epoch,
                examples,
                of,
                loss,
            } => {
                assert!(epoch == epochs + 1 && examples <= of && loss.is_finite());
                steps += 1;
            }
            Progress::Epoch(record) => {
                epochs += 1;
                assert_eq!((record.epoch, record.validation), (epochs, None));
            }
        }
    }
    let trained = run.finish();
    assert_eq!(
        (trained.best_epoch, trained.epochs.len(), epochs),
        (4, 4, 4)
    );
    assert!(steps >= 4 * trained.epochs[0].examples.div_ceil(256));
    assert!(trained.epochs[3].loss < trained.epochs[0].loss);
}

#[test]
fn a_loss_that_is_not_finite_ends_training() {
    let sample = Sample::new(8);
    let hyperparameters = Hyperparameters {
        learning_rate: 1e30,
        ..hyperparameters()
    };
    let outcome = sample.train(&hyperparameters);
    assert!(
        matches!(&outcome, Err(TrainError::Diverged { epoch: 1, loss }) if !loss.is_finite()),
        "{outcome:?}"
    );
}

#[test]
fn likes_without_anything_before_them_teach_nothing() {
    let mut sample = Sample::new(9);
    let mut first = vec![true; sample.dataset.users];
    sample
        .split
        .train
        .retain(|like| std::mem::take(&mut first[like.user as usize]));
    sample.skips.clear();
    assert!(matches!(
        sample.train(&hyperparameters()),
        Err(TrainError::NoExamples)
    ));
}

/// Without an order each like is predicted from all the others of its user.
#[test]
fn likes_without_an_order_are_learned_from_too() {
    // Each user stays in one genre, and times are not known.
    let mut dataset = dataset(12);
    let mut seen = std::collections::HashSet::new();
    dataset.skips.clear();
    dataset.likes.retain_mut(|like| {
        like.item = like.item / GENRES * GENRES + like.user % GENRES;
        like.at = 0;
        seen.insert((like.user, like.item))
    });
    let sample = Sample::of(dataset);
    let unordered = Hyperparameters {
        ordered: false,
        decays: vec![1.0],
        ..hyperparameters()
    };
    let trained = sample.train(&unordered).unwrap();
    let mut likes = vec![0; sample.dataset.users];
    for like in &sample.split.train {
        likes[like.user as usize] += 1;
    }
    let examples: usize = likes.into_iter().filter(|&n| n > 1).sum();
    assert_eq!(trained.epochs[0].examples, examples, "all but only likes");
    let popularity = Popularity::fit(sample.dataset.catalogue.len(), &sample.split.train);
    assert!(sample.ndcg_of_model(&trained.model) > 2.0 * sample.ndcg_at_10(&popularity));
    assert!(unordered.validate().is_ok());
    let with_decays = Hyperparameters {
        ordered: false,
        ..hyperparameters()
    };
    assert!(with_decays.validate().is_err());
}
