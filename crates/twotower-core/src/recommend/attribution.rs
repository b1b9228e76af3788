//! Attributes a recommendation to the user's likes.

use crate::kernel;
use crate::tower::UserTower;

/// How much each of a user's latest likes contributes to a recommendation's score: the score minus
/// the score of the same user without that like (leave-one-out influence, as in Koh and Liang, ICML
/// 2017, but with another pass of the tower instead of its gradient).
///
/// The tower is not linear, so that contributions do not sum to the score. They may be negative:
/// then the video is recommended in spite of that like.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    dim: usize,
    /// Row i: the user's vector minus that without like i, `[likes, d]`.
    differences: Vec<f32>,
}

impl Attribution {
    /// Leaves out each of the latest `most` of `likes` in turn. `likes` and `skips` are vectors
    /// `[d]`, oldest first.
    ///
    /// Costs O(likes · k d), and a pass of the tower for each like left out.
    pub fn new(tower: &UserTower, likes: &[&[f32]], skips: &[&[f32]], most: usize) -> Self {
        let dim = tower.dim();
        let first = likes.len().saturating_sub(most);
        let none = || std::iter::empty::<&[f32]>();
        let skipped = tower.history(none(), skips.iter().copied());

        // later[i]: the state of the likes after like `first + i`, and of all skips.
        let mut later = vec![skipped];
        for like in likes[first..].iter().skip(1).rev() {
            let one = tower.history([*like], none());
            later.push(one.then(tower, &later[later.len() - 1]));
        }
        later.reverse();

        let mut earlier = tower.history(likes[..first].iter().copied(), none());
        let mut inputs = vec![0.0; (likes.len() - first + 1) * tower.inputs()];
        let mut rows = inputs.chunks_exact_mut(tower.inputs());
        for (like, later) in likes[first..].iter().zip(&later) {
            if let Some(row) = rows.next() {
                earlier.then(tower, later).input(row);
            }
            earlier.like(tower, like);
        }
        if let (Some(row), Some(skipped)) = (rows.next(), later.last()) {
            earlier.then(tower, skipped).input(row);
        }
        let mut differences = vec![0.0; (likes.len() - first + 1) * dim];
        tower.head.embed(&inputs, &mut differences);
        let whole = differences.split_off((likes.len() - first) * dim);
        for row in differences.chunks_exact_mut(dim) {
            for (without, with) in row.iter_mut().zip(&whole) {
                *without = with - *without;
            }
        }
        Self { dim, differences }
    }

    /// Contribution of each of those likes to the score of the video with this vector `[d]`, oldest
    /// first.
    pub fn shares<'a>(&'a self, video: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        self.differences
            .chunks_exact(self.dim)
            .map(move |row| kernel::dot(row, video))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::tower::{Dense, Head};
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    const DIM: usize = 4;

    fn random(random: &mut Pcg64Mcg, n: usize) -> Vec<f32> {
        (0..n).map(|_| random.random_range(-0.5..0.5)).collect()
    }

    fn tower(rng: &mut Pcg64Mcg) -> UserTower {
        let (decays, hidden) = (vec![0.0, 0.5, 1.0], 8);
        let inputs = (decays.len() + 1) * DIM + 2;
        let mut matrix = |rows, cols| {
            let mut matrix = Matrix::zeros(rows, cols);
            matrix
                .as_mut_slice()
                .copy_from_slice(&random(rng, rows * cols));
            matrix
        };
        UserTower {
            decays,
            skip_decay: 0.9,
            head: Head {
                hidden: Dense {
                    weight: matrix(inputs, hidden),
                    bias: vec![0.1; hidden],
                },
                output: Dense {
                    weight: matrix(hidden, DIM),
                    bias: vec![0.0; DIM],
                },
                residual: matrix(inputs, DIM),
            },
        }
    }

    #[test]
    fn a_share_is_what_the_score_loses_without_that_like() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let tower = tower(&mut rng);
        let vectors: Vec<Vec<f32>> = (0..9).map(|_| random(&mut rng, DIM)).collect();
        let video = random(&mut rng, DIM);
        for (likes, skips, most) in [(7, 2, 7), (7, 2, 3), (7, 0, 100), (1, 0, 5), (1, 1, 1)] {
            let rows: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
            let (likes, skips) = (&rows[..likes], &rows[7..7 + skips]);
            let attribution = Attribution::new(&tower, likes, skips, most);
            let shares: Vec<f32> = attribution.shares(&video).collect();
            assert_eq!(shares.len(), likes.len().min(most));

            let score = |likes: Vec<&[f32]>| {
                let mut x = vec![0.0; tower.inputs()];
                let mut out = vec![0.0; DIM];
                tower.history(likes, skips.iter().copied()).input(&mut x);
                tower.head.embed(&x, &mut out);
                kernel::dot(&out, &video)
            };
            let whole = score(likes.to_vec());
            for (place, share) in (likes.len() - shares.len()..).zip(shares) {
                let mut others = likes.to_vec();
                others.remove(place);
                let expected = whole - score(others);
                assert!((share - expected).abs() < 1e-5, "{share} {expected}");
            }
        }
    }
}
