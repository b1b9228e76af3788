use super::by_user;
use super::conjugate_gradient::Problem;
use crate::interaction::{History, Interaction, Sequences};
use crate::kernel;
use crate::matrix::Matrix;
use crate::recommend::Recommender;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Steps of the solver per row and sweep of training. Each sweep starts from the solution of the
/// previous one.
const TRAINING_STEPS: usize = 3;

/// At most this many steps of the solver for a user's factor, which starts from zero.
const FOLD_IN_STEPS: usize = 32;

/// Options of [`Ials`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IalsOptions {
    /// Number of factors d.
    pub factors: usize,
    /// Number of sweeps over all users and all videos.
    pub sweeps: usize,
    /// Weight α₀ of every pair, liked or not; a like adds 1. Hu et al.'s α is its inverse.
    pub unobserved_weight: f32,
    /// Regularisation λ.
    pub regularisation: f32,
    /// Seed of the initial factors.
    pub seed: u64,
}

impl Default for IalsOptions {
    fn default() -> Self {
        Self {
            factors: 64,
            sweeps: 10,
            unobserved_weight: 0.5,
            regularisation: 0.005,
            seed: 42,
        }
    }
}

/// Implicit alternating least squares (Hu, Koren & Volinsky, ICDM 2008) in the form of Rendle et
/// al. (Recommender Systems 2022): Σ over likes (1 - xᵤ·yᵢ)² + α₀ Σ over all pairs (xᵤ·yᵢ)² + λ Σ
/// over rows (likes of the row + α₀ rows of the other side) ‖row‖².
///
/// Only the factors of videos are kept. A user's factor is solved from the history for each query.
#[derive(Debug, Clone, PartialEq)]
pub struct Ials {
    options: IalsOptions,
    /// `[V, d]`
    videos: Matrix,
    /// α₀ Yᵀ Y, `[d, d]`
    gram: Matrix,
}

impl Ials {
    /// Fits factors of the `items` videos.
    ///
    /// # Panics
    /// If a like names a video outside `0..items`.
    pub fn fit(items: usize, likes: &[Interaction], options: &IalsOptions) -> Self {
        let users = by_user(likes);
        let turned: Vec<Interaction> = likes
            .iter()
            .map(|like| Interaction {
                user: like.item,
                item: like.user,
                at: like.at,
            })
            .collect();
        let by_item = Sequences::new(items, &turned);
        let mut generator = Pcg64::seed_from_u64(options.seed);
        let mut start = |rows: usize| {
            let mut matrix = Matrix::zeros(rows, options.factors);
            let range = 0.1 / (options.factors as f32).sqrt();
            for x in matrix.as_mut_slice() {
                *x = generator.random_range(-range..range);
            }
            matrix
        };
        let (mut people, mut videos) = (start(users.users()), start(items));
        for _ in 0..options.sweeps {
            sweep(&users, &videos, &mut people, options);
            sweep(&by_item, &people, &mut videos, options);
        }
        Self {
            options: *options,
            gram: gram(&videos, options),
            videos,
        }
    }

    /// The user's factor `[d]`; zero for an empty history.
    fn user(&self, likes: &[u32]) -> Vec<f32> {
        let mut user = vec![0.0; self.options.factors];
        Problem {
            gram: self.gram.as_slice(),
            factors: self.videos.as_slice(),
            regularisation: regularisation(likes.len(), self.videos.rows(), &self.options),
        }
        .solve(&likes.iter().copied(), &mut user, FOLD_IN_STEPS);
        user
    }
}

/// Solves every row of `solved` for the `fixed` rows of the other side.
fn sweep(rows: &Sequences, fixed: &Matrix, solved: &mut Matrix, options: &IalsOptions) {
    let gram = gram(fixed, options);
    solved
        .as_mut_slice()
        .par_chunks_mut(options.factors)
        .enumerate()
        .for_each(|(row, x)| {
            let others = rows.of(row);
            Problem {
                gram: gram.as_slice(),
                factors: fixed.as_slice(),
                regularisation: regularisation(others.len(), fixed.rows(), options),
            }
            .solve(&others.iter().copied(), x, TRAINING_STEPS);
        });
}

/// α₀ Yᵀ Y
fn gram(factors: &Matrix, options: &IalsOptions) -> Matrix {
    let mut gram = Matrix::zeros(factors.cols(), factors.cols());
    kernel::gemm(
        options.unobserved_weight,
        kernel::View::from(factors).t(),
        factors,
        0.0,
        gram.as_mut_slice(),
    );
    gram
}

fn regularisation(likes: usize, others: usize, options: &IalsOptions) -> f32 {
    options.regularisation * (likes as f32 + options.unobserved_weight * others as f32)
}

impl Recommender for Ials {
    fn name(&self) -> &'static str {
        "ials"
    }

    fn items(&self) -> usize {
        self.videos.rows()
    }

    fn score(&self, history: History<'_>, scores: &mut [f32]) {
        let user = self.user(history.likes);
        for (score, video) in scores
            .iter_mut()
            .zip(self.videos.as_slice().chunks_exact(self.options.factors))
        {
            *score = kernel::dot(&user, video);
        }
    }
}
