//! The HTTP API and the console over real connections, on an embedded store with a small seeded
//! model.

pub(crate) mod fixture;

pub(crate) mod client;

mod recommendations;

mod lists;

mod caps;

mod exploration;

mod late_database;

mod isolation;

mod errors;

mod tokens;

mod canaries;

mod events;

mod source;

mod erased;

mod issuer;

pub(crate) mod public_keys;

mod key_file;

mod readiness;

mod refreshing;

mod connections;

mod admission;

mod contract;

mod console;

mod browser;

mod clients;
