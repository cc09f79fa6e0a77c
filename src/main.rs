//! The fota binary: parse arguments, dispatch; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    fota::cli::main()
}
