//! The quality gate: a good challenger passes, a broken one is refused for what is broken.

use super::{dataset, hyperparameters, train};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use std::sync::LazyLock;
use twotower_core::baseline::Popularity;
use twotower_core::embedding::Embeddings;
use twotower_core::evaluate::evaluate;
use twotower_core::feature::Catalogue;
use twotower_core::gate::{Contender, GateOptions, Judged, Verdict, judge};
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::kernel;
use twotower_core::metric::Bootstrap;
use twotower_core::model::Model;
use twotower_core::split::{HeldOut, Phase, Split};
use twotower_core::train::{Goal, TrainingData};

/// The last round that challengers learn; the champion learned one round less.
const CUT: u32 = 8;

static DATA: LazyLock<Dataset> = LazyLock::new(|| dataset(11));

static CHAMPION: LazyLock<Model> =
    LazyLock::new(|| learn(&DATA.catalogue, &likes_until(CUT - 1, |_| true)));

static CHALLENGER: LazyLock<Model> =
    LazyLock::new(|| learn(&DATA.catalogue, &likes_until(CUT, |_| true)));

fn likes_until(cut: u32, keep: impl Fn(&Interaction) -> bool) -> Vec<Interaction> {
    let likes = DATA
        .likes
        .iter()
        .filter(|like| like.at <= cut && keep(like));
    likes.copied().collect()
}

fn learn(catalogue: &Catalogue, likes: &[Interaction]) -> Model {
    let data = TrainingData::held(catalogue, DATA.users, likes, []);
    let trained = train(data, &hyperparameters(), Goal::Epochs(6));
    trained.unwrap().model
}

fn words<'v>(verdict: &'v Verdict, name: &str) -> &'v str {
    let check = verdict.checks.iter().find(|check| check.name == name);
    &check.unwrap().words
}

/// The verdict on `challenger`, trained on this share of the data.
fn verdict(challenger: &Model, share: f64, champion: Option<&Model>) -> Verdict {
    verdict_since(0, challenger, share, champion)
}

/// The same for a challenger that learned nothing from before `since`.
fn verdict_since(since: u32, challenger: &Model, share: f64, champion: Option<&Model>) -> Verdict {
    let split = Split::after(&DATA, CUT);
    let videos = DATA.catalogue.videos();
    let embed = |model: &Model| model.embed_videos(videos.clone()).unwrap();
    let (ours, theirs) = (embed(challenger), champion.map(embed));
    let contender = |model, videos, share: f64| Contender {
        model,
        videos,
        likes: (share * 4500.0) as u64,
        catalogue: (share * DATA.catalogue.len() as f64) as u64,
        since,
    };
    let champion = champion.zip(theirs.as_ref());
    judge(
        contender(challenger, &ours, share),
        champion.map(|(model, videos)| contender(model, videos, 1.0)),
        Judged {
            catalogue: &DATA.catalogue,
            seen: &split.seen(Phase::Test),
            held_out: &split.held_out_users(Phase::Test),
        },
        &GateOptions::default(),
        &Bootstrap::default(),
    )
    .unwrap()
}

fn refusals(verdict: &Verdict) -> Vec<&str> {
    verdict
        .refusals()
        .map(|check| check.name.as_str())
        .collect()
}

#[test]
fn a_good_challenger_passes_with_and_without_a_champion() {
    for champion in [None, Some(&*CHAMPION)] {
        let verdict = verdict(&CHALLENGER, 1.0, champion);
        assert!(verdict.passed(), "{verdict}");
        assert!(verdict.to_string().starts_with("passed\n  ok"));
        for check in &verdict.checks {
            ends_in_what_is_compared(&check.words);
        }
    }
}

/// Checks that the words end with a figure and its bound in the same unit:
/// `… 3.6 points (at most 10.0 points)`.
fn ends_in_what_is_compared(words: &str) {
    let sides = [" (at least ", " (at most "];
    let (side, (before, after)) = sides
        .iter()
        .find_map(|side| Some((*side, words.split_once(side)?)))
        .unwrap_or_else(|| panic!("no bound: {words}"));
    let bound = after.split(')').next().unwrap();
    let (bound, unit) = bound
        .split_once(' ')
        .map_or((bound, ""), |(x, unit)| (x, unit));
    let before = before.strip_suffix(unit).unwrap().trim_end();
    let figure = before.rsplit(' ').next().unwrap();
    let [figure, bound]: [f64; 2] = [figure, bound].map(|number| number.parse().unwrap());
    let holds = if side == sides[0] {
        figure >= bound
    } else {
        figure <= bound
    };
    assert!(holds, "it passed: {words}");
}

#[test]
fn one_that_learned_shuffled_likes_is_worse_beyond_doubt() {
    let mut likes = likes_until(CUT, |_| true);
    let mut items: Vec<u32> = likes.iter().map(|like| like.item).collect();
    items.shuffle(&mut Pcg64::seed_from_u64(1));
    for (like, item) in likes.iter_mut().zip(items) {
        like.item = item;
    }
    let verdict = verdict(&learn(&DATA.catalogue, &likes), 1.0, Some(&CHAMPION));
    assert!(
        refusals(&verdict).contains(&"ndcg_at_10_difference"),
        "{verdict}"
    );
}

#[test]
fn collapsed_towers_are_seen_by_their_vectors() {
    let mut model = CHALLENGER.clone();
    let head = &mut model.item_tower.head;
    head.output.weight.as_mut_slice().fill(0.0);
    head.residual.as_mut_slice().fill(0.0);
    head.output.bias.fill(1.0);
    let verdict = verdict(&model, 1.0, Some(&CHAMPION));
    for reason in ["mean_norm", "near_duplicates"] {
        assert!(refusals(&verdict).contains(&reason), "{verdict}");
    }
}

#[test]
fn half_a_catalogue_is_missed() {
    let half = |like: &Interaction| like.item.is_multiple_of(2);
    let model = learn(&DATA.catalogue, &likes_until(CUT, half));
    let verdict = verdict(&model, 0.5, Some(&CHAMPION));
    for reason in ["known_videos", "videos_ratio", "likes_ratio"] {
        assert!(refusals(&verdict).contains(&reason), "{verdict}");
    }
}

/// A challenger need not know videos that only older likes contain.
#[test]
fn who_learns_from_late_likes_is_judged_by_late_likes() {
    // From round 5 on, only the second half of the catalogue is liked.
    let late = 5;
    let half = DATA.catalogue.len() as u32 / 2;
    let learned = |like: &Interaction| like.at >= late && like.item >= half;
    let model = learn(&DATA.catalogue, &likes_until(CUT, learned));
    let known = |since| {
        let verdict = verdict_since(since, &model, 1.0, None);
        let checks = &verdict.checks;
        let known = checks.iter().find(|check| check.name == "known_videos");
        known.unwrap().measured
    };
    assert!(known(0) < known(late), "{} {}", known(0), known(late));
}

/// A column that is filled for the first time is no drift, however the model states that it had
/// none.
#[test]
fn a_number_that_one_side_never_had_has_not_moved() {
    let with = |model: &Model, number: Option<f32>, counted: bool| {
        let mut model = model.clone();
        let date = &mut model.preprocessing.numeric[2];
        date.count = counted.then_some(u64::from(number.is_some()));
        if let Some(number) = number {
            date.mean = number;
        }
        model
    };
    let filled = with(&CHALLENGER, Some(20_000.0), true);
    for champion in [with(&CHAMPION, None, true), with(&CHAMPION, None, false)] {
        let verdict = verdict(&filled, 1.0, Some(&champion));
        assert!(!refusals(&verdict).contains(&"drift"), "{verdict}");
        let said = words(&verdict, "drift");
        assert!(
            said.contains("date had no value when the version served was trained"),
            "{said}"
        );
    }
    let emptied = verdict(&CHALLENGER, 1.0, Some(&with(&CHAMPION, Some(1.0), false)));
    assert!(words(&emptied, "drift").contains("date has no value any more"));
    let moved = with(&CHAMPION, Some(19_000.0), true);
    let verdict = verdict(&filled, 1.0, Some(&moved));
    assert!(refusals(&verdict).contains(&"drift"), "{verdict}");
    assert!(words(&verdict, "drift").contains("the mean of date has moved by 33.33"));
}

/// Popularity ranks for users without a history, in place of any model, so that they must not count
/// in its favour.
#[test]
fn whom_popularity_ranks_for_says_nothing_of_a_model() {
    let split = Split::after(&DATA, CUT);
    let dim = CHALLENGER.hyperparameters.embedding_dim;
    let mut generator = Pcg64::seed_from_u64(3);
    let mut random = Embeddings::new(dim);
    for _ in 0..DATA.catalogue.len() {
        let row: Vec<f32> = (0..dim)
            .map(|_| generator.random_range(-1.0..1.0))
            .collect();
        let norm = kernel::dot(&row, &row).sqrt();
        let row: Vec<f32> = row.iter().map(|x| x / norm).collect();
        random.push(&row).unwrap();
    }
    let good = CHALLENGER.embed_videos(DATA.catalogue.videos()).unwrap();
    let all = split.held_out_users(Phase::Test).users;
    let seen = split.seen(Phase::Test);
    // The first `known` users as they are, and all others without a history.
    let verdict = |videos: &Embeddings, known: usize| {
        let mut held_out = HeldOut { users: all.clone() };
        for user in &mut held_out.users[known..] {
            (user.likes, user.skips) = (Vec::new(), Vec::new());
        }
        let contender = Contender {
            model: &CHALLENGER,
            videos,
            likes: 4500,
            catalogue: DATA.catalogue.len() as u64,
            since: 0,
        };
        let on = Judged {
            catalogue: &DATA.catalogue,
            seen: &seen,
            held_out: &held_out,
        };
        let (options, bootstrap) = (GateOptions::default(), Bootstrap::default());
        judge(contender, None, on, &options, &bootstrap).unwrap()
    };
    let passed = verdict(&good, 20);
    assert!(passed.passed(), "{passed}");
    let said = words(&passed, "users");
    assert!(
        said.contains("the models rank for 20 of them, of whom something was known before"),
        "{said}"
    );
    // The ranking for the others would pass.
    let popularity = Popularity::fit(DATA.catalogue.len(), &seen);
    let all_new = HeldOut { users: all.clone() };
    let popular = evaluate(&popularity, &popularity, &all_new, &Bootstrap::default()).unwrap();
    assert!(popular.summary.all.auc.mean > GateOptions::default().min_auc + 0.05);
    let garbage = verdict(&random, 20);
    assert!(refusals(&garbage).contains(&"auc"), "{garbage}");
    assert_eq!(refusals(&verdict(&good, 19)), ["users"]);
    let none = verdict(&good, 0);
    assert!(refusals(&none).contains(&"users"), "{none}");
    assert!(words(&none, "users").contains("nothing was known of any before"));
    assert!(words(&none, "auc").contains("is not known"));
}

#[test]
fn with_nobody_to_rank_for_no_number_is_told() {
    let split = Split::after(&DATA, u32::MAX);
    let videos = CHALLENGER.embed_videos(DATA.catalogue.videos()).unwrap();
    let contender = Contender {
        model: &CHALLENGER,
        videos: &videos,
        likes: 4500,
        catalogue: DATA.catalogue.len() as u64,
        since: 0,
    };
    let on = Judged {
        catalogue: &DATA.catalogue,
        seen: &split.seen(Phase::Test),
        held_out: &split.held_out_users(Phase::Test),
    };
    let (options, bootstrap) = (GateOptions::default(), Bootstrap::default());
    let verdict = judge(contender, Some(contender), on, &options, &bootstrap).unwrap();
    assert!(refusals(&verdict).contains(&"auc"), "{verdict}");
    assert!(words(&verdict, "users").contains("0 users have likes after"));
    for check in [
        "auc",
        "precision_at_10",
        "popularity_difference",
        "coverage_at_10",
    ] {
        assert!(words(&verdict, check).contains("is not known"), "{verdict}");
    }
}
