//! `siglatchctl firewall try`: asks whether the rules that [`super::watch`] has loaded are to stay.
//!
//! The watcher is a process of its own session, joined to this one by two pipes. Whatever ends this process (a lost
//! connection, a closed terminal, a kill) ends its pipe, and that takes the rules back.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};

use super::nft::nft;
use super::watch::{LOADED, YES};
use crate::config::show_duration;
use crate::ctl::args::Try;
use crate::ctl::internal;
use crate::exit::{self, Exit, Failure};

/// Loads a ruleset, and takes it back unless it is confirmed.
pub(in crate::ctl) fn trial(args: &Try) -> Result<(), Failure> {
    let file = std::path::absolute(&args.file).map_err(|error| internal(&error))?;
    let shown = file.display();
    if !file.is_file() {
        let failure = Failure::new(Exit::Config, format!("there is no file {shown}"));
        return Err(failure.hint("`siglatchctl firewall snippet ACTION > FILE` makes one"));
    }
    nft([OsString::from("-c"), "-f".into(), file.clone().into()], "")?;
    let revert = show_duration(args.revert);
    let mut watcher = start(&[
        "firewall".into(),
        "watch".into(),
        "--revert".into(),
        revert.clone().into(),
        file.clone().into(),
    ])
    .map_err(|error| internal(&error))?;
    let (Some(answer), Some(said)) = (watcher.stdin.take(), watcher.stdout.take()) else {
        return Err(internal(&"a pipe is missing"));
    };
    let mut said = BufReader::new(said);
    let mut line = String::new();
    said.read_line(&mut line).map_err(|error| internal(&error))?;
    if line == LOADED {
        exit::note(&format!(
            "{shown} is loaded, for {revert}. Open a NEW connection to this machine now: the one you have proves nothing.\n\
             If that works, type yes here. Anything else takes the rules back, and so does silence."
        ));
        ask(answer, &said).map_err(|error| internal(&error))?;
    }
    end(&mut watcher)
}

fn start(args: &[OsString]) -> io::Result<Child> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this program itself: no script, nothing that a knock started"
    )]
    Command::new("/proc/self/exe").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

/// Hands the first line that is typed to the watcher, unless that ends before.
fn ask(mut answer: ChildStdin, watcher: &BufReader<ChildStdout>) -> io::Result<()> {
    let stdin = io::stdin();
    let ended = watcher.get_ref();
    let mut typed = Vec::new();
    loop {
        let mut ready =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let [typing, ending] = &ready;
        // It says nothing more: this is its end.
        if !ending.revents().is_empty() {
            return Ok(());
        }
        if typing.revents().is_empty() {
            continue;
        }
        let mut bytes = [0; 64];
        let read = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
        typed.extend(bytes.iter().take(read).copied());
        if read == 0 || typed.contains(&b'\n') || typed.len() > bytes.len() {
            break;
        }
    }
    if typed.split(|byte| *byte == b'\n').next().is_some_and(|line| line.trim_ascii() == b"yes") {
        // A watcher that is gone has said why.
        drop(answer.write_all(YES));
    }
    Ok(())
}

/// The watcher has told how it ended.
fn end(watcher: &mut Child) -> Result<(), Failure> {
    let status = watcher.wait().map_err(|error| internal(&error))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(75) => Err(Failure::new(Exit::TryAgain, "the ruleset is not in force")),
        Some(70) => Err(Failure::new(Exit::Internal, "the firewall needs you")),
        Some(_) => Err(Failure::new(Exit::Config, "the ruleset was not loaded")),
        None => Err(Failure::new(
            Exit::Internal,
            format!("the watcher was killed ({status}); the rules may be in force"),
        )
        .hint("`nft list ruleset` shows what is loaded; a reboot brings back what is configured")),
    }
}
