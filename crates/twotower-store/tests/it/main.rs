//! One contract, run on both engines, and what only one of them promises.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every function here is a test or serves one"
)]

mod contract;

mod database;

mod postgres;

mod sqlite;

mod storage;

mod supabase;
