//! The program as its users run it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod prepare;

mod embed;

#[cfg(feature = "ballista")]
mod cluster;
