//! The program `twotower-scale`; see the library.

use clap::Parser;
use std::process::ExitCode;
use twotower_scale::Arguments;

fn main() -> ExitCode {
    twotower_scale::run(Arguments::parse())
}
