//! The administrator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    siglatch::ctl::main(std::env::args_os())
}
