//! What a hostile review found, each finding as a test on the real daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect"
)]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::Site;

/// Lets another program start the daemon.
fn by(command: &mut Command, starter: &[&str]) {
    let mut wrapped = Command::new(starter[0]);
    wrapped
        .args(&starter[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    *command = wrapped;
}

#[test]
fn a_starter_that_blocks_signals_keeps_none_from_the_daemon() {
    let site = Site::new().with_run();
    let mut daemon = site.start_with(|command| by(command, &["env", "--block-signal"]));
    daemon.send(&site.datagram());
    daemon.wait("the script to be reaped", |line| line.contains("code=finished"));
    daemon.stop();
}
