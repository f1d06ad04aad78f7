//! The other half of `siglatchctl firewall try`: loads the rules, waits for a yes, and takes them back without one.
//!
//! In: a file; on standard input [`YES`], or the end. Out: [`LOADED`] on standard output; how it ended on standard error,
//! which is the terminal, if that is still there. Never: waiting for a terminal, or dying of one: this is a session of
//! its own, and a signal to end makes it take the rules back first.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::nft::nft;
use super::saved::Saved;
use crate::clock::Clock;
use crate::config::{files, show_duration};
use crate::ctl::args::Try;
use crate::ctl::internal;
use crate::exit::{self, Exit, Failure};

/// Loads `args.file` and takes it back after `args.revert`, or when standard input ends.
pub(in crate::ctl) fn watch(args: &Try) -> Result<(), Failure> {
    nix::unistd::setsid().map_err(|errno| internal(&errno))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| internal(&error))?;
    }
    let before = Saved::read()?;
    let frozen = before.frozen();
    if flushes(&args.file)? && !frozen.is_empty() {
        let what = format!(
            "{} flushes the whole ruleset, and nft could not put back: {}",
            args.file.display(),
            frozen.join(", ")
        );
        let hint = "iptables-nft manages these tables (for ufw or Docker): flush your own tables instead";
        return Err(Failure::new(Exit::Config, what).hint(hint));
    }
    let copy = keep(&before)?;
    nft(["-f".as_ref(), args.file.as_os_str()], "")?;
    let after = Saved::read();
    let changed = match &after {
        Ok(after) => before.changed(after),
        // What is new cannot be told; all that can be put back is better than a door that stays shut.
        Err(_) => before.names().filter(|name| !frozen.contains(name)).collect(),
    };
    let (mut lost, back): (Vec<&str>, Vec<&str>) =
        changed.into_iter().partition(|name| frozen.contains(name));
    if after.is_err() {
        lost.push("what the file has added");
    }
    let why = if lost.is_empty() {
        // Who asked may be gone: then there is an end to read.
        drop(exit::say(LOADED));
        wait(args.revert, &stop)
    } else {
        Some("it could not be taken back in full later".to_owned())
    };
    let Some(why) = why else {
        exit::note(
            "kept: the ruleset stays until the next reboot, and after it if /etc/nftables.conf includes it",
        );
        return Ok(());
    };
    let restored = restore(&before, &back);
    if restored.is_ok() && lost.is_empty() {
        return Err(Failure::new(Exit::TryAgain, format!("taken back: {why}; the firewall is as it was")));
    }
    let copy = copy.keep().map(|(_, path)| path.display().to_string()).unwrap_or_default();
    let said = restored.err().map_or_else(String::new, |failure| {
        lost = back;
        format!(" ({})", failure.what)
    });
    let what = format!("not taken back: {}{said}", lost.join(", "));
    Err(Failure::new(Exit::Internal, what).hint(format!("the rules as they were are in {copy}")))
}

/// More than once: what ends a whole session (a logout may) ends nft in the middle of it too.
fn restore(before: &Saved, names: &[&str]) -> Result<(), Failure> {
    let mut restored = before.restore(names);
    for _ in 1..ATTEMPTS {
        if restored.is_ok() {
            break;
        }
        std::thread::sleep(SLICE);
        restored = before.restore(names);
    }
    restored
}

/// `None`: it was confirmed. Else why it was not.
fn wait(revert: Duration, stop: &AtomicBool) -> Option<String> {
    let clock = Clock::start();
    let end = clock.now().mono.saturating_add(revert);
    let stdin = io::stdin();
    let mut said = Vec::new();
    loop {
        let left = end.saturating_sub(clock.now().mono);
        if stop.load(Ordering::Relaxed) {
            return Some("the watcher was told to end".to_owned());
        }
        if left.is_zero() {
            return Some(format!("nobody said yes within {}", show_duration(revert)));
        }
        // In slices: a signal between the look at `stop` and the wait would go unnoticed for the whole time.
        let slice = Timespec::try_from(left.min(SLICE)).ok();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        if !matches!(poll(&mut ready, slice.as_ref()), Ok(1..)) {
            continue;
        }
        let mut bytes = [0; 16];
        let read = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
        said.extend(bytes.iter().take(read).copied());
        if said == YES {
            return None;
        }
        if read == 0 || !YES.starts_with(&said) {
            return Some("nobody said yes".to_owned());
        }
    }
}

/// A copy for the administrator, should everything go wrong: readable by root alone.
fn keep(saved: &Saved) -> Result<tempfile::NamedTempFile, Failure> {
    let folder = if Path::new("/run").is_dir() { Path::new("/run").to_owned() } else { std::env::temp_dir() };
    let written = tempfile::Builder::new().prefix("siglatch-firewall-").suffix(".nft").tempfile_in(folder);
    written
        .and_then(|mut copy| {
            io::Write::write_all(&mut copy, saved.text().as_bytes())?;
            Ok(copy)
        })
        .map_err(|error| Failure::new(Exit::of_io(&error), format!("cannot save the ruleset: {error}")))
}

/// Whether the file itself empties everything; in one that it includes, this is found when it has happened.
fn flushes(file: &Path) -> Result<bool, Failure> {
    let bytes = files::read(file, files::Secrecy::Public, FILE_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words: Vec<&str> =
        code.flat_map(|line| line.split([' ', '\t', ';'])).filter(|word| !word.is_empty()).collect();
    Ok(words.windows(2).any(|pair| pair == ["flush", "ruleset"]))
}

/// What the watcher says once.
pub(super) const LOADED: &str = "loaded\n";

/// And hears.
pub(super) const YES: &[u8] = b"yes\n";

/// Longest file, in bytes: some have lists of networks in them.
const FILE_MAX: u64 = 64 << 20;

const ATTEMPTS: u32 = 5;

const SLICE: Duration = Duration::from_millis(250);
