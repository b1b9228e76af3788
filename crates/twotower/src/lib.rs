//! The `twotower` command as a library, so that tests can reach its parts. Modules are listed in
//! the order in which data passes through them.

pub mod cli;

mod exit_code;

pub mod config;

mod log_file;

mod log_lines;

mod time;

mod sha256;

mod files;

mod progress;

pub mod interrupt;

pub mod import;

mod histories;

mod shards;

mod export;

pub mod demo;

mod vectors;

mod jobs;

mod report;

pub mod operations;

pub mod serve;

mod console;

#[cfg(test)]
mod fuzz;
