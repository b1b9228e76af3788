//! A week of operation in minutes, on a clock that is moved.

mod clock;
