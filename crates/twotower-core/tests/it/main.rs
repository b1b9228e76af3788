//! Tests of the crate's public interface.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod contract;

mod evaluation;

mod sample;

mod train;

mod user_tower_file;
