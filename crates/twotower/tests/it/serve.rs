//! The HTTP API and the console over real connections, on a store of the embedded kind with a small seeded model.

pub(crate) mod fixture;

mod client;

mod recommendations;

mod errors;

mod tokens;

mod erased;

mod public_keys;

mod readiness;

mod connections;

mod admission;

mod contract;

mod console;

mod browser;
