//! Versions of models from their folder to what readers see, and back.

mod place;

mod registry;

mod publisher;

mod failures;

mod gate;

mod erase;

mod prune;
