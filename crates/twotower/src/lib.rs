//! The `twotower` command as a library, so that tests reach its parts. Modules stand in the order of the data's path.

pub mod cli;

pub mod config;

pub mod log_file;

pub mod log_lines;

mod sha256;

pub mod progress;

pub mod import;

mod histories;

pub mod shards;

pub mod export;

pub mod demo;

pub mod vectors;

pub mod jobs;

pub mod report;

pub mod operations;

pub mod serve;

pub mod console;

#[cfg(test)]
mod fuzz;
