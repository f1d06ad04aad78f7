//! The daemon: the only room that acts.
//!
//! In: a configuration, the listener's messages, signals. Out: scripts, log lines, counts. It wires judge, store and
//! work together in one loop, starts the listener and takes nothing from it on trust. Never: bytes from the network.

mod args;
mod control;
mod counts;
mod doors;
mod dry;
mod exchange;
mod hooks;
mod inherited;
mod listener;
mod logging;
mod moved;
mod notify;
mod pending;
mod receipts;
mod reload;
mod report;
mod run;
mod sockets;
mod stamps;
mod start;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use listenfd::ListenFd;
use nix::sys::signal::SigSet;

use crate::config;
use crate::exit::{self, Exit, Failure, end};

#[cfg(feature = "fuzzing")]
pub(crate) use {
    listener::{Loss, limits},
    run::by_hand,
    stamps::difference as stamp_keys,
};

/// siglatchd: the keeper, or, when a keeper has started it so, the listener.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.peekable();
    let program = args.next();
    if args.peek().is_some_and(|arg| arg == listener::FLAG) {
        return listener::main();
    }
    #[cfg(feature = "webhook")]
    if args.peek().is_some_and(|arg| arg == crate::webhook::FLAG) {
        return crate::webhook::main();
    }
    let args = program.into_iter().chain(args);
    let args = match exit::parse::<args::Args>(args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    if args.check {
        return end(config::check(&args.config));
    }
    // Before there are threads: it changes the environment.
    let inherited = inherited::take();
    // Threads inherit the mask, and a starter's mask would keep every signal from here: no stop, no reload, no reaping.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        return end(Err(cannot("unblock signals", &errno.into())));
    }
    let loaded = match config::load_telling(&args.config) {
        Ok(loaded) => loaded,
        Err(failure) => return end(Err(failure)),
    };
    let bind = if inherited.len() == 0 { pending::Bind::Own } else { pending::Bind::Inherited };
    let (loaded, taken_over) = pending::take_over(loaded, bind);
    if let Err(error) = logging::start(loaded.config.log) {
        return end(Err(cannot("start the log", &error)));
    }
    let staged = taken_over.staged();
    let served = match start::start(loaded, taken_over, inherited).map_err(Fallen::Early).and_then(run::run) {
        Err(Fallen::Early(failure)) => match (staged, bind) {
            (Some(folder), pending::Bind::Own) => again(&args.config, &failure, &folder),
            (Some(folder), pending::Bind::Inherited) => {
                // Who has the sockets starts it again.
                drop(pending::TakenOver::roll_back(&failure, &folder).tell());
                Err(failure)
            }
            (None, _) => Err(failure),
        },
        Err(Fallen::Late(failure)) => Err(failure),
        Ok(()) => Ok(()),
    };
    let code = match served {
        Ok(()) => Exit::Ok,
        Err(Failure { exit, what, hint }) => {
            log::error!(code = "failed", what, hint = hint.unwrap_or_default(); "failed");
            exit
        }
    };
    logging::finish();
    code.into()
}

/// Why it does not run any more.
enum Fallen {
    /// It never received anything.
    Early(Failure),
    Late(Failure),
}

/// Without what waited in `folder` for this start, which failed so.
fn again(path: &Path, failure: &Failure, folder: &Path) -> Result<(), Failure> {
    let rolled_back = pending::TakenOver::roll_back(failure, folder);
    let loaded = config::load_telling(path)?;
    match start::start(loaded, rolled_back, ListenFd::empty()).map_err(Fallen::Early).and_then(run::run) {
        Ok(()) => Ok(()),
        Err(Fallen::Early(failure) | Fallen::Late(failure)) => Err(failure),
    }
}

/// Its command line.
#[cfg(feature = "pages")]
pub(crate) fn command() -> clap::Command {
    <args::Args as clap::CommandFactory>::command()
}

/// The machine gave no thread, descriptor or the like.
fn cannot(doing: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::TryAgain, format!("cannot {doing}: {error}"))
}
