//! `siglatchctl top`: the running daemon, live, on a terminal.
//!
//! In: keys, and what the daemon says of itself once a second. Out: a screen, and leases that end when somebody confirmed it. Never:
//! waiting for the daemon; one that hangs or is gone is shown to be so, and asked again.
//!
//! # Security considerations
//!
//! What comes from the daemon is drawn without control characters, whatever is in it; ratatui leaves them out.

mod draw;
mod keys;
mod link;
mod rates;
mod screen;
mod view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};

use super::args::Way;
use super::ask::Daemon;
use crate::clock::Clock;
use crate::control::Request;
use crate::exit::{Exit, Failure};
use keys::Step;
use link::Link;
use screen::Screen;
use view::View;

/// Shows it until it is told to end.
pub(super) fn top(way: Way) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::new(Exit::Usage, "this needs a terminal").hint("siglatchctl status --json"));
    }
    let clock = Clock::start();
    let mut view = View::default();
    // Who may not ask is told so in plain words, not on a screen that goes away.
    let mut daemon = Daemon::connect(&way)?;
    let first = daemon.ask(&Request::Status)?;
    view.told(clock.now().mono, &Request::Status, Ok(first));
    let told_to_end = Arc::new(AtomicBool::new(false));
    // Not SIGHUP: the terminal that would be given back is gone.
    for signal in [SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end)).map_err(|error| lost(&error))?;
    }
    let link = Link::start(way, daemon).map_err(|error| lost(&error))?;
    let mut screen = Screen::open().map_err(|error| lost(&error))?;
    while !told_to_end.load(Ordering::Relaxed) {
        let now = clock.now().mono;
        view.now = now;
        while let Some((request, result)) = link.told() {
            view.told(now, &request, result);
        }
        if view.asks() {
            link.ask(Request::Status);
        }
        screen.draw(&mut view).map_err(|error| lost(&error))?;
        match step(&mut view).map_err(|error| lost(&error))? {
            Step::Stay => {}
            Step::Revoke(whom) => link.ask(Request::Revoke(whom)),
            Step::Quit => break,
        }
    }
    Ok(())
}

/// What comes of the keys that are typed next, if any are soon.
fn step(view: &mut View) -> io::Result<Step> {
    // Not left to crossterm: it would read a terminal that has hung up without end.
    let stdin = rustix::stdio::stdin();
    let mut typed = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut typed, Some(&TICK)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [typed] = typed.map(|typed| typed.revents());
    if typed.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Ok(Step::Quit);
    }
    while event::poll(Duration::ZERO)? {
        let step = match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => keys::press(view, key),
            // The next picture has the new size.
            Event::Resize(..) => Step::Stay,
            Event::Key(_) | Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => {
                Step::Stay
            }
        };
        if step != Step::Stay {
            return Ok(step);
        }
    }
    Ok(Step::Stay)
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Exit::of_io(error), format!("cannot use the terminal: {error}"))
}

/// How long a picture stands.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

#[cfg(test)]
mod tests;
