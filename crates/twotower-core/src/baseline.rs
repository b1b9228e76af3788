//! Recommenders that learn nothing deep.
