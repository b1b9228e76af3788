//! The parts of the binary together, as one test program.

mod import;

mod serve;
