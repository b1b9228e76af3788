//! The two towers, without I/O: data enters as slices and leaves as numbers.
//!
//! Modules are in the order in which data meets them. Random generators and the time are passed in,
//! so that the same snapshot, hyperparameters and seed give the same bytes of a model with any
//! number of threads.
//!
//! Shape letters of the whole crate: `B` examples of a batch, `C` candidates of a batch, `V`
//! videos, `T` rows of the term table, `d` embedding dimension, `k` recency scales, `x` inputs of a
//! tower, `h` hidden units.

pub mod time;

pub mod external;

pub mod interaction;

pub mod timeline;

pub mod split;

pub mod feature;

pub mod matrix;

pub mod tensors;

pub mod kernel;

mod pages;

mod scratch;

pub mod hyperparameters;

pub mod tower;

pub mod model;

pub mod negative;

pub mod loss;

pub mod optimizer;

pub mod train;

pub mod embedding;

pub mod recommend;

pub mod index;

pub mod metric;

pub mod baseline;

pub mod evaluate;

pub mod ab_test;

pub mod gate;
