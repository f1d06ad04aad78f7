//! The knock client.

use std::process::ExitCode;

fn main() -> ExitCode {
    siglatch::client::main(std::env::args_os())
}
