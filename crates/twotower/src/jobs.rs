//! Train, evaluate, update: what the commands do.
