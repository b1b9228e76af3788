//! The parts of the binary together, as one test program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every function here is a test or serves one"
)]

mod support;

mod heavy_path;

mod heavy_tune;

mod import;

mod life_cycle;

mod serve;

#[cfg(target_os = "linux")]
mod torture;
