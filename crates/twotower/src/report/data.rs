use serde::{Deserialize, Serialize};
use twotower_core::evaluate::{Comparison, Evaluation};
use twotower_core::feature::Catalogue;
use twotower_core::metric::Bootstrap;
use twotower_core::split::HeldOut;

/// The content of a report.
#[derive(Debug, Clone)]
pub(crate) struct ReportData {
    /// Subject of the report, such as the model's version.
    pub(crate) title: String,
    /// The split and the phase in words, such as "temporal split, test".
    pub(crate) protocol: String,
    /// The model, if there is one, and the baselines on the same users.
    pub(crate) comparison: Comparison,
    /// How intervals of differences are resampled.
    pub(crate) bootstrap: Bootstrap,
    /// One row per epoch; empty where no model was trained.
    pub(crate) epochs: Vec<EpochRow>,
    /// The epoch whose weights were kept, from 1.
    pub(crate) best_epoch: Option<usize>,
    /// Lists of a few users, without names; may be empty.
    pub(crate) examples: Vec<WorkedExample>,
    /// Hyperparameters, in the order shown.
    pub(crate) hyperparameters: Vec<Fact>,
    /// Facts about the data, in the order shown.
    pub(crate) data: Vec<Fact>,
}

/// One epoch of training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochRow {
    /// From 1.
    pub(crate) epoch: usize,
    /// Mean loss over its examples, nats.
    pub(crate) loss: f64,
    /// Duration; unknown for epochs before a resumption.
    pub(crate) seconds: Option<f64>,
    /// Throughput in likes per second.
    pub(crate) examples_per_second: Option<f64>,
    /// NDCG@10 on warm users of the validation part, if there is one.
    pub(crate) validation_ndcg_at_10: Option<f64>,
}

/// A name and its value, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fact {
    /// Label.
    pub(crate) name: String,
    /// Value with its unit.
    pub(crate) value: String,
}

/// What one user, who is not named, liked and was recommended, by title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkedExample {
    /// The latest seen likes, newest first.
    pub(crate) liked: Vec<String>,
    /// Best first.
    pub(crate) recommended: Vec<RecommendedTitle>,
    /// Number of held-out likes.
    pub(crate) held_out: usize,
}

/// One recommendation of a [`WorkedExample`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecommendedTitle {
    /// Title of the video.
    pub(crate) title: String,
    /// Whether it is one of the held-out likes.
    pub(crate) hit: bool,
}

/// Number of the latest likes that a worked example shows.
const LIKES_SHOWN: usize = 5;

/// Examples of `count` warm users of `evaluation`, spread evenly whatever their results, so that
/// successes are not cherry-picked.
///
/// `held_out` is the data of `evaluation`; positions are those of `catalogue`.
pub(crate) fn worked_examples(
    evaluation: &Evaluation,
    held_out: &HeldOut,
    catalogue: &Catalogue,
    count: usize,
) -> Vec<WorkedExample> {
    let title = |item: u32| {
        let video = catalogue.video(item as usize);
        if video.title.is_empty() {
            format!("video {}", video.id)
        } else {
            video.title.to_owned()
        }
    };
    let warm: Vec<_> = evaluation
        .users
        .iter()
        .zip(&held_out.users)
        .filter(|(row, _)| row.warm)
        .collect();
    let count = count.min(warm.len());
    (0..count)
        .map(|n| {
            let (row, user) = warm[(2 * n + 1) * warm.len() / (2 * count)];
            WorkedExample {
                liked: user
                    .likes
                    .iter()
                    .rev()
                    .take(LIKES_SHOWN)
                    .map(|&item| title(item))
                    .collect(),
                recommended: row
                    .top
                    .iter()
                    .map(|&item| RecommendedTitle {
                        title: title(item),
                        hit: user.targets.contains(&item),
                    })
                    .collect(),
                held_out: user.targets.len(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_core::baseline::Popularity;
    use twotower_core::evaluate::evaluate;
    use twotower_core::feature::Video;
    use twotower_core::split::HeldOutUser;
    use uuid::Uuid;

    #[test]
    fn examples_show_titles_newest_like_first_and_mark_hits() {
        let video = |n: u32| Video {
            id: Uuid::from_u128(u128::from(n) + 1),
            title: format!("title {n}"),
            ..Video::default()
        };
        let catalogue = Catalogue::new((0..20).map(video)).unwrap();
        let user = |user, likes: &[u32]| HeldOutUser {
            user,
            likes: likes.to_vec(),
            skips: vec![],
            targets: vec![3],
        };
        let held_out = HeldOut {
            users: vec![user(0, &[]), user(1, &[0, 1]), user(2, &[5])],
        };
        let popularity = Popularity::fit(20, &[]);
        let evaluation =
            evaluate(&popularity, &popularity, &held_out, &Bootstrap::default()).unwrap();
        let examples = worked_examples(&evaluation, &held_out, &catalogue, 9);
        assert_eq!(examples.len(), 2, "a cold user has nothing to show");
        assert_eq!(examples[0].liked, ["title 1", "title 0"]);
        let titles: Vec<_> = examples[0].recommended[..2].iter().collect();
        assert_eq!(
            (titles[0].title.as_str(), titles[0].hit),
            ("title 2", false)
        );
        assert_eq!((titles[1].title.as_str(), titles[1].hit), ("title 3", true));
    }
}
