//! Versions of models from their folder to readers, and back.

pub(crate) mod place;

mod vectors;

pub(crate) mod load;

mod registry;

mod numbers;

mod publisher;

mod failures;

mod gate;

mod under_load;

mod privacy;

mod logs;

mod erase;

mod experiment;

mod prune;

mod roles;
