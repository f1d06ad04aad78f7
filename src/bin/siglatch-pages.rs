//! Manual pages and completions, for who makes packages.

use std::process::ExitCode;

fn main() -> ExitCode {
    siglatch::pages::main(std::env::args_os())
}
