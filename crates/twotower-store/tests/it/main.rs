//! One contract, run on both engines, and promises of a single engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every function here is a test or serves one"
)]

mod contract;

mod database;

mod template;

mod postgres;

mod sqlite;

mod storage;

mod supabase;
