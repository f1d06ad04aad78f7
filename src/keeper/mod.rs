//! The daemon: the only room that acts.
//!
//! In: a configuration, the listener's messages, signals. Out: scripts, log lines, counts. It wires judge, store and
//! work together in one loop, and takes nothing from the listener on trust.

mod args;
mod counts;
mod logging;
mod reload;
mod report;
mod run;
mod sockets;
mod start;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use crate::config;
use crate::exit::Exit;
use crate::store::StoreError;

/// siglatchd.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::parse(args) {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    // A closed stderr takes the words, not the exit code.
    let mut stderr = std::io::stderr().lock();
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            drop(writeln!(stderr, "{problems}"));
            return Exit::Config.into();
        }
    };
    if args.check {
        drop(write!(stderr, "{}", loaded.warnings));
        let (users, actions) = (loaded.config.users.len(), loaded.config.actions.len());
        drop(writeln!(
            stderr,
            "{}: good: {users} users, {actions} actions",
            args.config.display()
        ));
        return Exit::Ok.into();
    }
    drop(stderr);
    logging::start(loaded.config.log);
    match start::start(loaded).and_then(run::run) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            log::error!(code = "failed", what:% = failure.what, hint:% = failure.hint; "failed");
            failure.exit.into()
        }
    }
}

/// Why the daemon cannot start, or had to stop.
#[derive(Debug)]
struct Failure {
    what: String,
    hint: String,
    exit: Exit,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure {
            what: error.what,
            hint: error.hint,
            exit: error.exit,
        }
    }
}

/// The machine gave no thread, descriptor or the like.
fn internal(doing: &str, error: &std::io::Error) -> Failure {
    Failure {
        what: format!("cannot {doing}: {error}"),
        hint: "try again".to_owned(),
        exit: Exit::TryAgain,
    }
}
