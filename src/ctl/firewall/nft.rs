//! Runs nft, and waits for it.

use std::ffi::OsStr;
use std::io::{self, Seek as _, Write as _};
use std::process::{Command, Output, Stdio};

use crate::ctl::internal;
use crate::exit::{Exit, Failure};
use crate::work::nft::NFT;

/// What nft says to these arguments, with `input` to read.
///
/// # Errors
///
/// [`Failure`] in nft's own words.
pub(in crate::ctl) fn nft<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<String, Failure> {
    let output = run(args, input).map_err(|error| {
        let failure = Failure::new(Exit::of_io(&error), format!("cannot run {NFT}: {error}"));
        if error.kind() == io::ErrorKind::NotFound { failure.hint("install nftables") } else { failure }
    })?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| internal(&error));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not permitted") {
        return Err(
            Failure::new(Exit::Permission, "nft may not look at the firewall").hint("run this as root")
        );
    }
    Err(Failure::new(Exit::Config, format!("nft says: {}", said.trim_end())))
}

fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &str) -> io::Result<Output> {
    // A file and no pipe: nobody has to write and read at once.
    let mut stdin = tempfile::tempfile()?;
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    #[expect(clippy::disallowed_methods, reason = "the administrator's tool asks nft; it starts no script")]
    Command::new(NFT).args(args).stdin(Stdio::from(stdin)).output()
}
