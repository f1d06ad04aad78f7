//! The responder.

use std::process::ExitCode;

fn main() -> ExitCode {
    siglatch::keeper::main(std::env::args_os())
}
