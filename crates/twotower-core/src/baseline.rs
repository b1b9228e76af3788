//! Simple recommenders that the two towers must beat, measured on the same split in the same run.
//!
//! They keep no state of users: a history is the only input of a query.

mod popularity;

mod item_knn;

mod conjugate_gradient;

mod ials;

mod inverse;

mod ease;

pub use ease::{Ease, EaseError, EaseOptions};
pub use ials::{Ials, IalsOptions};
pub use item_knn::{ItemKnn, ItemKnnOptions};
pub use popularity::Popularity;

use crate::interaction::{Interaction, Sequences};

/// Likes by user, oldest first.
fn by_user(likes: &[Interaction]) -> Sequences {
    let users = likes.iter().map(|like| like.user as usize + 1).max();
    Sequences::new(users.unwrap_or(0), likes)
}
