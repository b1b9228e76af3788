//! One contract, run on both engines, and what only one of them promises.

mod contract;

mod database;

mod postgres;

mod sqlite;
