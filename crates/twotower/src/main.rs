//! The `twotower` command.

fn main() -> std::process::ExitCode {
    twotower::cli::main()
}
