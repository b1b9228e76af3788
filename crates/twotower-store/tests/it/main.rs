//! One contract, run on both engines, and what only one of them promises.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod contract;

mod database;

mod postgres;

mod sqlite;
