//! Recommenders that learn nothing deep: what the two towers must beat, measured on the same split in the same run.

mod popularity;

pub use popularity::Popularity;
