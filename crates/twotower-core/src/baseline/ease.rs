use super::by_user;
use super::inverse::invert;
use crate::interaction::{History, Interaction};
use crate::kernel;
use crate::matrix::Matrix;
use crate::recommend::Recommender;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Options of [`Ease`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EaseOptions {
    /// Regularisation λ, positive.
    pub regularisation: f32,
    /// Larger catalogues are refused: memory grows with the square of the number of videos, and
    /// time with the cube.
    pub max_videos: usize,
}

impl Default for EaseOptions {
    fn default() -> Self {
        Self {
            regularisation: 100.0,
            max_videos: 5000,
        }
    }
}

/// Why the model cannot be fitted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EaseError {
    /// The catalogue is too large for a full matrix.
    #[error("the catalogue has {videos} videos, and a full matrix is made for at most {limit}")]
    Videos {
        /// Number of videos in the catalogue.
        videos: usize,
        /// [`EaseOptions::max_videos`].
        limit: usize,
    },
}

/// Embarrassingly shallow autoencoder (Steck, WWW 2019): the full item-item matrix B with zero
/// diagonal that minimises ‖X - X B‖² + λ ‖B‖² over the likes X, in closed form. The score of a
/// video is the sum of its column over the rows of the liked videos.
#[derive(Debug, Clone, PartialEq)]
pub struct Ease {
    /// B `[V, V]`
    weights: Matrix,
}

impl Ease {
    /// Inverts P = (Xᵀ X + λ I)⁻¹; then Bᵢⱼ = -Pᵢⱼ / Pⱼⱼ.
    ///
    /// # Errors
    /// [`EaseError::Videos`] if `items` is above the limit.
    ///
    /// # Panics
    /// If a like names a video outside `0..items`.
    pub fn fit(
        items: usize,
        likes: &[Interaction],
        options: &EaseOptions,
    ) -> Result<Self, EaseError> {
        if items > options.max_videos {
            return Err(EaseError::Videos {
                videos: items,
                limit: options.max_videos,
            });
        }
        let mut gram = Matrix::zeros(items, items);
        let users = by_user(likes);
        for user in 0..users.users() {
            for &a in users.of(user) {
                let row = gram.row_mut(a as usize);
                for &b in users.of(user) {
                    row[b as usize] += 1.0;
                }
            }
        }
        for item in 0..items {
            gram.row_mut(item)[item] += options.regularisation;
        }
        let mut weights = invert(&gram);
        let diagonal: Vec<f32> = (0..items).map(|item| weights.row(item)[item]).collect();
        for item in 0..items {
            let row = weights.row_mut(item);
            for (weight, own) in row.iter_mut().zip(&diagonal) {
                *weight /= -own;
            }
            row[item] = 0.0;
        }
        Ok(Self { weights })
    }
}

impl Recommender for Ease {
    fn name(&self) -> &'static str {
        "ease"
    }

    fn items(&self) -> usize {
        self.weights.rows()
    }

    fn score(&self, history: History<'_>, scores: &mut [f32]) {
        scores.fill(0.0);
        for &liked in history.likes {
            kernel::axpy(1.0, self.weights.row(liked as usize), scores);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_catalogue_is_refused() {
        let error = Ease::fit(5001, &[], &EaseOptions::default()).unwrap_err();
        assert_eq!(
            error,
            EaseError::Videos {
                videos: 5001,
                limit: 5000
            }
        );
    }

    /// At the minimum the gradient Xᵀ(X B - X) + λ B vanishes off the diagonal.
    #[test]
    fn the_weights_are_the_minimum() {
        let rows = [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (1, 2),
            (2, 2),
            (2, 3),
            (3, 1),
        ];
        let likes: Vec<Interaction> = rows
            .iter()
            .map(|&(user, item)| Interaction { user, item, at: 0 })
            .collect();
        let options = EaseOptions {
            regularisation: 0.5,
            ..EaseOptions::default()
        };
        let weights = Ease::fit(4, &likes, &options).unwrap().weights;
        let x = |user: u32, item: u32| f32::from(u8::from(rows.contains(&(user, item))));
        for i in 0..4u32 {
            for j in (0..4u32).filter(|&j| j != i) {
                let gradient: f32 = (0..4u32)
                    .map(|user| {
                        let guess: f32 = (0..4u32)
                            .map(|k| x(user, k) * weights.row(k as usize)[j as usize])
                            .sum();
                        x(user, i) * (guess - x(user, j))
                    })
                    .sum();
                let gradient = gradient + 0.5 * weights.row(i as usize)[j as usize];
                assert!(gradient.abs() < 1e-5, "({i}, {j}): {gradient}");
            }
        }
    }
}
