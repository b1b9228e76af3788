//! The program as its users run it.
#![allow(
    clippy::unwrap_used,
    reason = "every function here is a test or serves one"
)]

mod support;

mod prepare;

mod embed;

mod stopped;

#[cfg(feature = "ballista")]
mod cluster;
