//! `siglatch proxy`: what OpenSSH runs as its ProxyCommand.
//!
//! One loop takes what happens on the other threads: the door is open, a way has ended, a signal came. That one is waited
//! for only where the door has to be closed behind it; otherwise a signal ends the program as it ends any.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::{SigSet, Signal, raise};

use super::args;
use super::door::Door;
use super::relay::{self, Ended};
use super::target;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::Host;

/// Runs the command.
pub(super) fn proxy(args: args::Proxy) -> ExitCode {
    match run(args) {
        Ok(End::Done) => Exit::Ok.into(),
        Ok(End::Signal(signal)) => ExitCode::from(128_u8.saturating_add(signal as u8)),
        Err(failure) => exit::end(Err(failure)),
    }
}

fn run(args: args::Proxy) -> Result<End, Failure> {
    let args::Proxy { profile, host, port, action, release, opening } = args;
    let door = Arc::new(Door::new(target::profile(&profile)?, action.as_deref(), &opening)?);
    let (tell, events) = channel();
    if release {
        door.closes()?;
        watch(tell.clone()).map_err(|error| internal(&error))?;
    }
    enter(Arc::clone(&door), host.clone(), port, tell.clone()).map_err(|error| internal(&error))?;
    let ended = carry(&events, &tell, &host);
    if release && let Err(failure) = door.release() {
        exit::note(&format!("warning: the door stays open until its time is over: {}", failure.what));
    }
    ended
}

/// How it ended, where nothing failed.
enum End {
    Done,
    Signal(Signal),
}

enum Event {
    Open(Result<TcpStream, Failure>),
    Way(Ended),
    Signal(Signal),
}

impl From<Ended> for Event {
    fn from(ended: Ended) -> Event {
        Event::Way(ended)
    }
}

/// Ends when both ways have, when the reader of standard output has left, when the connection is lost, or by a signal.
fn carry(events: &Receiver<Event>, tell: &Sender<Event>, host: &Host) -> Result<End, Failure> {
    let broken = |error: &io::Error| {
        Failure::new(Exit::TryAgain, format!("the connection to {host} broke off: {error}"))
    };
    let mut ways = 2_u8;
    while ways > 0 {
        match events.recv().map_err(|error| internal(&error))? {
            Event::Open(stream) => relay::start(stream?, tell).map_err(|error| internal(&error))?,
            Event::Way(Ended::Up(Ok(())) | Ended::Down(Ok(()))) => ways = ways.saturating_sub(1),
            Event::Way(Ended::Down(Err(error))) if error.kind() == ErrorKind::BrokenPipe => break,
            Event::Way(Ended::Up(Err(error)) | Ended::Down(Err(error))) => return Err(broken(&error)),
            Event::Signal(signal) => return Ok(End::Signal(signal)),
        }
    }
    Ok(End::Done)
}

/// Knocks and connects on a thread of its own, so that a signal need not wait for it.
fn enter(door: Arc<Door>, host: Host, port: u16, tell: Sender<Event>) -> io::Result<()> {
    let work = move || drop(tell.send(Event::Open(door.enter(&host, port))));
    thread::Builder::new().name("enter".to_owned()).spawn(work)?;
    Ok(())
}

/// Takes the signals that end a program, before there is any other thread. The same one again is meant; but not SIGHUP,
/// which ssh sends at its end, and a terminal too.
fn watch(tell: Sender<Event>) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let work = move || {
        let mut seen = SigSet::empty();
        while let Ok(signal) = signals.wait() {
            if signal != Signal::SIGHUP && seen.contains(signal) {
                // Should that fail, the program still goes to its end by itself.
                signals.thread_unblock().and_then(|()| raise(signal)).ok();
            }
            seen.add(signal);
            drop(tell.send(Event::Signal(signal)));
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work)?;
    Ok(())
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}
