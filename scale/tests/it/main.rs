//! The program as its users run it.

mod support;

mod prepare;

mod embed;

#[cfg(feature = "ballista")]
mod cluster;
