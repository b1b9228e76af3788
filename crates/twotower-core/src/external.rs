//! Ids and times in the spellings of applications. They are parsed in one place, so that a file
//! means the same to every reader.

pub mod id;

pub mod time;
