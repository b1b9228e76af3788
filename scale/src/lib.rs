//! What does not fit one process or one machine, on engines that exist: DataFusion, and Ballista for a cluster.
//!
//! Modules stand in the order in which data meets them. An engine scans, maps and sorts; what one pass over a sorted
//! stream can do is done here, by the one process that writes the files. So the bytes are the same whoever sorted.

pub mod generate;

mod cell;

mod video;

mod function;

mod source;

mod memory;

mod engine;

mod output;

mod hash;

mod vector_file;

pub mod prepare;

mod model;

pub mod embed;

#[cfg(feature = "ballista")]
pub mod cluster;

mod command;

pub use command::{Arguments, run};
