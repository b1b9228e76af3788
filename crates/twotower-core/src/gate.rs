//! The quality gate: decides whether a model may replace the one that is served.
//!
//! Challenger and champion rank the same held-out likes, which neither has learned, by the protocol
//! of [`crate::evaluate`]. Only users with an earlier like or skip are ranked: for all others
//! popularity ranks in place of both, which would make any two models look alike. The challenger
//! must not be worse beyond doubt, must stay above absolute floors, and its vectors and inputs must
//! be in order. Every check gives what was measured, its bound, and an explanation in words.

mod health;

mod verdict;

pub use health::Health;
pub use verdict::{Check, Verdict};

use crate::baseline::Popularity;
use crate::embedding::Embeddings;
use crate::evaluate::{
    CohortSummary, Evaluation, EvaluationError, Metric, evaluate, paired_bootstrap,
};
use crate::feature::{Catalogue, NUMERIC_FEATURES, Preprocessing, VideoRef};
use crate::interaction::Interaction;
use crate::metric::{Bootstrap, signed};
use crate::model::{Model, TwoTower};
use crate::recommend::Recommender;
use crate::split::{HeldOut, HeldOutUser};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use verdict::{Figure, Unit};

/// Bounds of the checks. Floors depend on the data: set them to what a good model reaches on yours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateOptions {
    /// Lower bound of the mean AUC. Like all metrics of users, over the users that the model ranks
    /// for.
    pub min_auc: f64,
    /// Lower bound of the mean Precision@10. Off by default, as it depends on how many likes users
    /// have in the hold-out.
    pub min_precision_at_10: f64,
    /// Lower bound of Coverage@10, as a share of the champion's.
    pub min_coverage_ratio: f64,
    /// Upper bound of the rise of the mean popularity percentile of the videos shown, over the
    /// champion's.
    pub max_popularity_rise: f64,
    /// Upper bound of the norm of the mean video vector: 1 where all vectors are the same, 0 where
    /// they balance.
    pub max_mean_norm: f64,
    /// Upper bound of the share of videos whose vector equals another one but for rounding.
    pub max_near_duplicates: f64,
    /// Lower bound of the share of likes, of videos with enough users, whose video has a row of its
    /// own in the challenger.
    pub min_known_videos: f64,
    /// Lower bound of the numbers of likes and of videos trained on, as shares of the champion's.
    pub min_data_ratio: f64,
    /// Upper bound of the change of the mean of a numeric input since the champion, in the
    /// champion's standard deviations.
    pub max_drift: f64,
    /// At least this many held-out users with an earlier like or skip are needed for a decision.
    pub min_users: usize,
    /// At most this many of them are ranked, evenly spread.
    pub max_users: usize,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            min_auc: 0.65,
            min_precision_at_10: 0.0,
            min_coverage_ratio: 0.5,
            max_popularity_rise: 0.1,
            max_mean_norm: 0.9,
            max_near_duplicates: 0.5,
            min_known_videos: 0.9,
            min_data_ratio: 0.8,
            max_drift: 1.0,
            min_users: 20,
            max_users: 5_000,
        }
    }
}

/// The challenger or the champion.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// Towers and preprocessing.
    pub model: &'a Model,
    /// Its vectors of the videos in the catalogue.
    pub videos: &'a Embeddings,
    /// Number of likes in its training data.
    pub likes: u64,
    /// Number of videos in its training data.
    pub catalogue: u64,
    /// Time of the oldest of those likes, seconds since 1970; 0 if it is not known.
    pub since: u32,
}

impl<'a> Contender<'a> {
    fn towers(self) -> TwoTower<'a> {
        TwoTower {
            user_tower: &self.model.user_tower,
            videos: self.videos,
        }
    }
}

/// The data that both models are judged on.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// All videos.
    pub catalogue: &'a Catalogue,
    /// Likes before the hold-out.
    pub seen: &'a [Interaction],
    /// Users and their targets, which neither model has learned.
    pub held_out: &'a HeldOut,
}

/// Judges `challenger`, against `champion` if one is served.
///
/// # Errors
/// [`EvaluationError::NotFinite`] if one of them gives a score that is NaN or infinite.
pub fn judge(
    challenger: Contender<'_>,
    champion: Option<Contender<'_>>,
    on: Judged<'_>,
    options: &GateOptions,
    bootstrap: &Bootstrap,
) -> Result<Verdict, EvaluationError> {
    let popularity = Popularity::fit(challenger.videos.len(), on.seen);
    let known = known_users(&challenger.towers(), on.held_out);
    let whom = spread(&known, options.max_users);
    let rank =
        |contender: Contender<'_>| evaluate(&contender.towers(), &popularity, &whom, bootstrap);
    let ranked = rank(challenger)?;
    let mut checks = vec![users(&ranked, on.held_out, known.len(), options)];
    checks.extend(floors(&ranked, options));
    let popular = evaluate(&popularity, &popularity, &whom, bootstrap)?;
    let popular = (&popular, "the most popular videos");
    checks.push(not_worse(
        "popularity_difference",
        &ranked,
        popular,
        bootstrap,
    )?);
    checks.extend(health(challenger, options));
    checks.push(known_videos(challenger, on, options));
    if let Some(champion) = champion {
        let served = rank(champion)?;
        let against = (&served, "the version served");
        checks.push(not_worse(
            "ndcg_at_10_difference",
            &ranked,
            against,
            bootstrap,
        )?);
        checks.extend(exposure(&ranked, &served, options));
        checks.extend(drift(challenger, champion, options));
    }
    Ok(Verdict { checks })
}

/// Users with a history that `towers` rank by.
fn known_users<'a>(towers: &TwoTower<'_>, held_out: &'a HeldOut) -> Vec<&'a HeldOutUser> {
    let users = held_out.users.iter();
    users.filter(|user| towers.serves(user.history())).collect()
}

/// At most `most` of `users`, evenly spread.
fn spread(users: &[&HeldOutUser], most: usize) -> HeldOut {
    let drawn = users.len().min(most);
    let user = |n: usize| users[n * users.len() / drawn].clone();
    HeldOut {
        users: (0..drawn).map(user).collect(),
    }
}

/// `known`: number of users of `held_out` that the models rank for.
fn users(ranked: &Evaluation, held_out: &HeldOut, known: usize, options: &GateOptions) -> Check {
    let all = held_out.users.len();
    let for_whom = match (all, known) {
        (0, _) => ", so that nothing could be ranked".to_owned(),
        (_, 0) => {
            ", but nothing was known of any before, so that nothing could be ranked".to_owned()
        }
        _ => {
            let drawn = match ranked.users.len() {
                ranked if ranked < known => format!(", and {ranked} of these were drawn"),
                _ => String::new(),
            };
            format!(
                "; the models rank for {known} of them, of whom something was known before{drawn}"
            )
        }
    };
    let ranked = Figure::new(ranked.users.len() as f64, Unit::Count);
    Check::at_least(
        "users",
        ranked,
        options.min_users as f64,
        "users ranked for:",
    )
    .and(&format!(
        "; {all} users have likes after the data that the models learned{for_whom}"
    ))
}

/// A figure that was measured on users and its description. Without users both say that it was not
/// measured.
fn of_users(ranked: &Evaluation, what: &str, words: String, figure: Figure) -> (Figure, String) {
    if ranked.users.is_empty() {
        let unknown = Figure {
            known: false,
            ..figure
        };
        let words = format!("{what} is not known, for there is nobody to rank for");
        (unknown, words)
    } else {
        (figure, words)
    }
}

fn floors(ranked: &Evaluation, options: &GateOptions) -> [Check; 2] {
    let floor = |name, what, metric, bound| {
        let mean = ranked.summary.all.metric(metric).mean;
        let words = format!("{what} on likes it has not seen is");
        let (figure, words) = of_users(ranked, what, words, Figure::new(mean, Unit::Number));
        Check::at_least(name, figure, bound, &words)
    };
    [
        floor("auc", "AUC", Metric::Auc, options.min_auc),
        floor(
            "precision_at_10",
            "Precision@10",
            Metric::PrecisionAt10,
            options.min_precision_at_10,
        ),
    ]
}

/// Passes if the challenger may be better than `other` or as good, as far as can be told: the upper
/// end of the interval counts.
fn not_worse(
    name: &str,
    challenger: &Evaluation,
    (other, whose): (&Evaluation, &str),
    bootstrap: &Bootstrap,
) -> Result<Check, EvaluationError> {
    let difference = paired_bootstrap(challenger, other, Metric::NdcgAt10, bootstrap)?;
    let words = format!(
        "NDCG@10 is {:.4}, that of {whose} {:.4}: a difference of {}, 95 % between {} and {}; its upper end counts:",
        challenger.summary.all.ndcg_at_10.mean,
        other.summary.all.ndcg_at_10.mean,
        signed(difference.mean, 4),
        signed(difference.low, 4),
        signed(difference.high, 4),
    );
    let what = format!("the difference of NDCG@10 to {whose}");
    let high = Figure::new(difference.high, Unit::Difference);
    let (high, words) = of_users(challenger, &what, words, high);
    Ok(Check::at_least(name, high, 0.0, &words))
}

fn exposure(challenger: &Evaluation, champion: &Evaluation, options: &GateOptions) -> [Check; 2] {
    let (ours, theirs) = (&challenger.summary.all, &champion.summary.all);
    let (coverage, said_of_coverage) = of_users(
        challenger,
        "coverage of the catalogue",
        format!(
            "with the version served {:.1} % of the catalogue stands in somebody's top ten, with this one",
            100.0 * theirs.coverage_at_10
        ),
        Figure::new(ours.coverage_at_10, Unit::Percent),
    );
    let popular = |summary: &CohortSummary| 100.0 * summary.popularity_percentile_at_10;
    let rise = ours.popularity_percentile_at_10 - theirs.popularity_percentile_at_10;
    let (rise, said_of_rise) = of_users(
        challenger,
        "popularity of the videos shown",
        format!(
            "videos shown are more popular than {:.1} % of the catalogue, with the version served {:.1} %: a rise of",
            popular(ours),
            popular(theirs)
        ),
        Figure::new(rise, Unit::Points),
    );
    [
        Check::at_least(
            "coverage_at_10",
            coverage,
            options.min_coverage_ratio * theirs.coverage_at_10,
            &said_of_coverage,
        ),
        Check::at_most(
            "popularity_rise",
            rise,
            options.max_popularity_rise,
            &said_of_rise,
        ),
    ]
}

fn health(challenger: Contender<'_>, options: &GateOptions) -> [Check; 2] {
    let Health {
        mean_norm,
        near_duplicates,
        looked_at,
    } = Health::of(challenger.videos);
    let twins = if looked_at < challenger.videos.len() {
        format!(
            "of {looked_at} videos, spread evenly over the catalogue, those with the vector of another one of it:"
        )
    } else {
        "videos with the vector of another one:".to_owned()
    };
    [
        Check::at_most(
            "mean_norm",
            Figure::new(mean_norm, Unit::Number),
            options.max_mean_norm,
            "the mean of all video vectors has a norm of",
        )
        .and("; at 1 all videos are the same"),
        Check::at_most(
            "near_duplicates",
            Figure::new(near_duplicates, Unit::Percent),
            options.max_near_duplicates,
            &twins,
        ),
    ]
}

fn known_videos(challenger: Contender<'_>, on: Judged<'_>, options: &GateOptions) -> Check {
    let known = &challenger.model.preprocessing.videos;
    let videos = on.catalogue.videos();
    let known = |video: VideoRef<'_>| known.binary_search(&video.id).is_ok();
    let mut likes = vec![0; videos.len()];
    for like in on.seen.iter().filter(|like| like.at >= challenger.since) {
        likes[like.item as usize] += 1;
    }
    // Videos of fewer users have no row on purpose.
    let min_users = challenger.model.hyperparameters.min_users;
    let (mut of_many, mut of_known) = (0, 0);
    for (video, likes) in videos.zip(likes) {
        if likes >= min_users {
            of_many += likes;
            of_known += if known(video) { likes } else { 0 };
        }
    }
    let share = if of_many == 0 {
        1.0
    } else {
        of_known as f64 / of_many as f64
    };
    Check::at_least(
        "known_videos",
        Figure::new(share, Unit::Percent),
        options.min_known_videos,
        &format!(
            "of the likes of videos that {min_users} or more users like, those of videos that it has learned:"
        ),
    )
}

/// Checks the inputs: how much data there is, and how far the numbers have moved.
fn drift(challenger: Contender<'_>, champion: Contender<'_>, options: &GateOptions) -> Vec<Check> {
    let ratio = |name, what, ours: u64, theirs: u64| {
        let ratio = ours as f64 / theirs.max(1) as f64;
        Check::at_least(
            name,
            Figure::new(ratio, Unit::Percent),
            options.min_data_ratio,
            &format!("trained on {ours} {what}, the version served on {theirs}: of that"),
        )
    };
    let (moved, words, others) = moved(
        &challenger.model.preprocessing,
        &champion.model.preprocessing,
    );
    let moved = Figure::new(moved, Unit::Deviations);
    vec![
        ratio("likes_ratio", "likes", challenger.likes, champion.likes),
        ratio(
            "videos_ratio",
            "videos",
            challenger.catalogue,
            champion.catalogue,
        ),
        Check::at_most("drift", moved, options.max_drift, &words).and(&others),
    ]
}

/// Numeric features in words.
const NUMERIC_NAMES: [&str; NUMERIC_FEATURES] = ["price", "duration", "date"];

/// How far the mean of a numeric input has moved at most, what that means in words, and a note
/// about the others. An input that no video learned by one of the two models had has not moved:
/// otherwise a column that is filled for the first time would exceed any bound.
fn moved(ours: &Preprocessing, theirs: &Preprocessing) -> (f64, String, String) {
    let (mut most, mut compared, mut new, mut gone) = (0.0_f64, vec![], vec![], vec![]);
    for (feature, name) in NUMERIC_NAMES.into_iter().enumerate() {
        match (ours.has_numeric(feature), theirs.has_numeric(feature)) {
            (true, true) => {
                let (ours, theirs) = (ours.numeric[feature], theirs.numeric[feature]);
                most = most.max(f64::from(ours.mean - theirs.mean).abs() / f64::from(theirs.std));
                compared.push(name);
            }
            (true, false) => new.push(name),
            (false, true) => gone.push(name),
            (false, false) => {}
        }
    }
    let words = match compared[..] {
        [] => {
            "no numbers of videos are known to both versions, so that none have moved:".to_owned()
        }
        [one] => format!("the mean of {one} has moved by"),
        _ => format!("means of {} have moved by at most", listed(&compared)),
    };
    let mut others = String::new();
    for (names, what) in [
        (new, "had no value when the version served was trained"),
        (gone, "has no value any more in what this one learned"),
    ] {
        for name in names {
            let _ = write!(others, "; {name} {what}, and is not compared");
        }
    }
    (most, words, others)
}

/// "a, b and c"
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
