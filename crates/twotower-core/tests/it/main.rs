//! Tests of what the crate promises from outside.

mod evaluation;

mod sample;
