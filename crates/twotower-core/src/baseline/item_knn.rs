use super::by_user;
use crate::interaction::{History, Interaction, Sequences};
use crate::recommend::Recommender;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Options of [`ItemKnn`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ItemKnnOptions {
    /// Number of neighbours kept per video.
    pub neighbours: usize,
    /// Added to the denominator of the cosine, so that a few common likes do not make near twins.
    pub shrinkage: f32,
    /// At most this many of a user's latest likes count: the work grows with the square of a
    /// history.
    pub history_limit: usize,
}

impl Default for ItemKnnOptions {
    fn default() -> Self {
        Self {
            neighbours: 200,
            shrinkage: 1.0,
            history_limit: 500,
        }
    }
}

/// Item-based nearest neighbours (Sarwar et al. 2001) over likes: the score of a video is the sum
/// of its similarities to the liked ones.
///
/// The similarity of i and j is c / (√(nᵢ nⱼ) + shrinkage), where c users like both, and nᵢ and nⱼ
/// users like each. A liked video contributes to its `neighbours` most similar videos; all others
/// score 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemKnn {
    /// For each video its neighbours, most similar first.
    neighbours: Vec<Vec<(u32, f32)>>,
}

impl ItemKnn {
    /// Counts how often each pair of the `items` videos is liked by the same user.
    ///
    /// # Panics
    /// If a like names a video outside `0..items`.
    pub fn fit(items: usize, likes: &[Interaction], options: &ItemKnnOptions) -> Self {
        let all = by_user(likes);
        let latest = |user: usize| {
            let likes = all.of(user);
            &likes[likes.len().saturating_sub(options.history_limit)..]
        };
        // The same likes with users and videos exchanged.
        let turned: Vec<Interaction> = (0..all.users())
            .flat_map(|user| {
                latest(user).iter().map(move |&item| Interaction {
                    user: item,
                    item: user as u32,
                    at: 0,
                })
            })
            .collect();
        let by_item = Sequences::new(items, &turned);
        let likes_of = |item: u32| by_item.of(item as usize).len() as f32;
        let neighbours = (0..items as u32)
            .into_par_iter()
            .map_init(
                || vec![0u32; items],
                |together, item| {
                    let mut reached = Vec::new();
                    for &user in by_item.of(item as usize) {
                        for &other in latest(user as usize) {
                            let count = &mut together[other as usize];
                            if *count == 0 {
                                reached.push(other);
                            }
                            *count += 1;
                        }
                    }
                    let mut row: Vec<(u32, f32)> = Vec::with_capacity(reached.len());
                    for other in reached {
                        let count = std::mem::take(&mut together[other as usize]) as f32;
                        let norm = (likes_of(item) * likes_of(other)).sqrt();
                        if other != item {
                            row.push((other, count / (norm + options.shrinkage)));
                        }
                    }
                    keep_nearest(row, options.neighbours)
                },
            )
            .collect();
        Self { neighbours }
    }
}

/// The `k` most similar videos, ties to the smaller position.
fn keep_nearest(mut row: Vec<(u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let nearest_first = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if row.len() > k {
        row.select_nth_unstable_by(k, nearest_first);
        row.truncate(k);
    }
    row.sort_unstable_by(nearest_first);
    row.shrink_to_fit();
    row
}

impl Recommender for ItemKnn {
    fn name(&self) -> &'static str {
        "item-knn"
    }

    fn items(&self) -> usize {
        self.neighbours.len()
    }

    fn score(&self, history: History<'_>, scores: &mut [f32]) {
        scores.fill(0.0);
        for &liked in history.likes {
            for &(item, similarity) in &self.neighbours[liked as usize] {
                scores[item as usize] += similarity;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likes(rows: &[(u32, u32)]) -> Vec<Interaction> {
        let like = |&(user, item)| Interaction { user, item, at: 0 };
        rows.iter().map(like).collect()
    }

    #[test]
    fn similarity_is_the_shrunk_cosine() {
        let likes = likes(&[(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]);
        let options = ItemKnnOptions {
            shrinkage: 1.0,
            ..ItemKnnOptions::default()
        };
        let model = ItemKnn::fit(4, &likes, &options);
        let expected = [2.0 / (6f32.sqrt() + 1.0), 1.0 / (3f32.sqrt() + 1.0)];
        let row = &model.neighbours[0];
        assert_eq!((row[0].0, row[1].0, row.len()), (1, 2, 2));
        assert!(
            row.iter()
                .zip(expected)
                .all(|(n, e)| (n.1 - e).abs() < 1e-6)
        );
        assert!(model.neighbours[3].is_empty());
    }

    #[test]
    fn only_the_nearest_and_the_latest_count() {
        let likes = likes(&[(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]);
        let options = ItemKnnOptions {
            neighbours: 1,
            shrinkage: 0.0,
            history_limit: 2,
        };
        let model = ItemKnn::fit(3, &likes, &options);
        assert!(
            model.neighbours[0].is_empty(),
            "the first like was too long ago"
        );
        assert_eq!(model.neighbours[1], [(2, 1.0)]);
    }
}
