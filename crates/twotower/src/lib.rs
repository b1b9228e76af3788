//! The `twotower` command as a library, so that tests can reach its parts. Modules are listed in
//! the order in which data passes through them.

pub mod cli;

pub mod config;

pub mod log_file;

pub mod log_lines;

mod time;

mod sha256;

mod files;

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
