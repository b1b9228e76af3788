//! Ranking metrics: of one user's list, of all lists together, and how sure a mean of them is.
//!
//! Every function states its denominator and what ties do. Lists are made by [`crate::recommend::top_k`]: score
//! descending, ties to the smaller position.

mod accuracy;

mod auc;

mod exposure;

mod bootstrap;

pub use accuracy::{ndcg_at_k, precision_at_k, recall_at_k};
pub use auc::auc;
pub(crate) use bootstrap::ONE_IN;

pub use bootstrap::{Bootstrap, Estimate, Interval};
pub use exposure::{Exposure, PopularityScale};
