//! Ids and times as applications spell them. One place, so that a file means the same whoever reads it.

pub mod id;

pub mod time;
