//! Videos that nobody has liked yet: every tenth video is held out of training, with its likes and
//! skips. Then each user who likes some of them gets a ranking of all held-out videos, from
//! everything else that the user liked and skipped.

use crate::protocol::{self, Outcome};
use crate::public_data::Cut;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::{Dataset, History, Interaction, Sequences};
use twotower_core::metric::{auc, ndcg_at_k};
use twotower_core::model::TwoTower;
use twotower_core::split::{Split, SplitKind};
use twotower_core::train::{Goal, TrainingData};

const FOLDS: u32 = 10;

/// Mean AUC and NDCG@10 over users, for the videos whose number is `fold` modulo ten.
pub(crate) fn measure(fold: u32, (hyper, cut): (Hyperparameters, Cut)) -> Outcome<Vec<f64>> {
    let Dataset {
        catalogue,
        users,
        likes,
        skips,
    } = cut.dataset;
    let is_cold = |item: u32| item % FOLDS == fold;
    let split_off = |rows: Vec<Interaction>| -> (Vec<Interaction>, Vec<Interaction>) {
        rows.into_iter().partition(|row| is_cold(row.item))
    };
    let ((cold_likes, likes), (_, skips)) = (split_off(likes), split_off(skips));
    let dataset = Dataset {
        catalogue,
        users,
        likes,
        skips,
    };
    // Epochs are chosen among the warm videos; then all of their likes are learned.
    let split = Split::new(&dataset, SplitKind::Llo);
    let warm = Cut { dataset, split };
    let epochs = protocol::choose(&warm, &hyper, false)?;
    let data = TrainingData::held(
        &warm.dataset.catalogue,
        users,
        &warm.dataset.likes[..],
        &warm.dataset.skips[..],
    );
    let model = protocol::fit(data, &hyper, Goal::Epochs(epochs), false)?.model;
    let videos = model.embed_videos(warm.dataset.catalogue.videos())?;
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &videos,
    };
    let of = |rows: &[Interaction]| Sequences::new(users, rows);
    let (likes, skips, cold) = (
        of(&warm.dataset.likes),
        of(&warm.dataset.skips),
        of(&cold_likes),
    );
    let excluded: Vec<bool> = (0..videos.len() as u32)
        .map(|item| !is_cold(item))
        .collect();
    let mut rows = Vec::new();
    for user in 0..users {
        let targets = cold.of(user);
        let Some(vector) = towers.embed_user(History {
            likes: likes.of(user),
            skips: skips.of(user),
        }) else {
            continue;
        };
        let score = |item: usize| -> f32 {
            let row = videos.row(item).iter().zip(&vector);
            row.map(|(a, b)| a * b).sum()
        };
        let scores: Vec<f32> = (0..videos.len()).map(score).collect();
        if let Some(auc) = auc(&scores, &excluded, targets) {
            rows.push(vec![auc, ndcg(&scores, &excluded, targets)]);
        }
    }
    Ok(protocol::summary(&rows)
        .iter()
        .map(|(mean, _)| *mean)
        .collect())
}

/// NDCG@10 of the candidates by score. Ties are broken by a hash of the number, because small
/// numbers are the well-known films.
fn ndcg(scores: &[f32], excluded: &[bool], targets: &[u32]) -> f64 {
    let mut ranked: Vec<u32> = (0..scores.len() as u32)
        .filter(|&item| !excluded[item as usize])
        .collect();
    ranked.sort_by_key(|item| item.wrapping_mul(2_654_435_761));
    ranked.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
    let hits: Vec<bool> = ranked.iter().map(|item| targets.contains(item)).collect();
    ndcg_at_k(&hits, targets.len(), 10)
}
