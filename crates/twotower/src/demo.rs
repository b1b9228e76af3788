//! Generated data with a known truth.
