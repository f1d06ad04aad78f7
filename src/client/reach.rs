//! Connecting to a port that is about to open: every address again and again, until one answers or time is over.
//!
//! A connection that is begun before the door opens is lost, and the kernel repeats it only after a second: so each
//! attempt is short at first, and twice as long as the one before. The addresses race each other (RFC 8305), a start apart.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// Connects to one of `addresses`, within `timeout`. `again` is called a few times meanwhile: to repeat what may have been lost.
///
/// Blocks; a thread for each address goes on for at most one attempt after the first has answered.
pub(super) fn connect(
    addresses: &[SocketAddr],
    clock: &Clock,
    timeout: Duration,
    again: impl Fn(),
) -> Result<TcpStream, Unreached> {
    let until = clock.now().mono.saturating_add(timeout);
    let (tell, told) = channel();
    let race = Race { clock: *clock, until, over: Arc::default(), tell };
    let mut waiting = addresses.iter();
    let mut unreached = Unreached(Vec::new());
    let mut running = 0_usize;
    let mut repeats = REPEATS.iter().map(|after| clock.now().mono.saturating_add(*after)).peekable();
    let mut next_start = Duration::ZERO;
    loop {
        let now = clock.now().mono;
        if now >= next_start
            && let Some(address) = waiting.next()
        {
            match race.enter(*address) {
                Ok(()) => running = running.saturating_add(1),
                Err(error) => unreached.0.push((*address, error)),
            }
            next_start = now.saturating_add(APART).min(until);
        }
        if repeats.next_if(|at| now >= *at).is_some() {
            again();
        }
        if running == 0 && waiting.len() == 0 {
            unreached.0.sort_by_key(|(address, _)| *address);
            return Err(unreached);
        }
        let start = (waiting.len() > 0).then_some(next_start);
        let wake = start.into_iter().chain(repeats.peek().copied()).min();
        // The end needs no waking: the threads tell it.
        let pause = wake.map_or(LONGEST, |at| at.saturating_sub(clock.now().mono));
        match told.recv_timeout(pause) {
            Ok(News::Through(stream)) => {
                race.over.store(true, Ordering::Relaxed);
                return Ok(stream);
            }
            // The next need not wait for one that failed at once.
            Ok(News::Failed) => next_start = Duration::ZERO,
            Ok(News::GaveUp(address, error)) => {
                unreached.0.push((address, error));
                running = running.saturating_sub(1);
                next_start = Duration::ZERO;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// Addresses of both families in turns, beginning with the resolver's first, at most eight.
pub(super) fn in_turns(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found = found.peekable();
    let first = found.peek().is_some_and(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) = found.partition(|address| address.is_ipv4() == first);
    let mut sorted: Vec<_> = one.into_iter().enumerate().chain(other.into_iter().enumerate()).collect();
    sorted.sort_by_key(|(turn, _)| *turn);
    sorted.into_iter().map(|(_, address)| address).take(MOST).collect()
}

/// No address answered in time; how each of them fared last.
#[derive(Debug)]
pub(super) struct Unreached(Vec<(SocketAddr, io::Error)>);

impl Unreached {
    /// Whether one of them said that nobody is at home.
    pub(super) fn refused(&self) -> bool {
        self.0.iter().any(|(_, error)| error.kind() == ErrorKind::ConnectionRefused)
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (address, error)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let address = address.ip();
            if error.kind() == ErrorKind::TimedOut {
                write!(f, "{comma}{address} is silent")?;
            } else {
                write!(f, "{comma}{address}: {error}")?;
            }
        }
        Ok(())
    }
}

enum News {
    Through(TcpStream),
    /// The first attempt, and not for want of time.
    Failed,
    GaveUp(SocketAddr, io::Error),
}

#[derive(Clone)]
struct Race {
    clock: Clock,
    until: Duration,
    over: Arc<AtomicBool>,
    tell: Sender<News>,
}

impl Race {
    fn enter(&self, address: SocketAddr) -> io::Result<()> {
        let race = self.clone();
        thread::Builder::new().name("connect".to_owned()).spawn(move || {
            if let Some(news) = race.run(address) {
                // Who asked may have had his answer from another.
                drop(race.tell.send(news));
            }
        })?;
        Ok(())
    }

    /// `None`: another one was first.
    fn run(&self, address: SocketAddr) -> Option<News> {
        let mut last = io::Error::from(ErrorKind::TimedOut);
        let mut slot = SHORTEST;
        while !self.over.load(Ordering::Relaxed) {
            let begun = self.clock.now().mono;
            let left = self.until.saturating_sub(begun);
            if left < MOMENT {
                return Some(News::GaveUp(address, last));
            }
            match TcpStream::connect_timeout(&address, slot.min(left)) {
                Ok(stream) => return Some(News::Through(stream)),
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => {
                    if slot == SHORTEST {
                        drop(self.tell.send(News::Failed));
                    }
                    last = error;
                    // It may be refused only until the door opens.
                    let spent = self.clock.now().mono.saturating_sub(begun);
                    thread::sleep(slot.min(SLOWEST_RETRY).min(left).saturating_sub(spent));
                }
            }
            slot = slot.saturating_mul(2).min(LONGEST);
        }
        None
    }
}

/// More addresses than this are not tried.
const MOST: usize = 8;
/// RFC 8305, "Connection Attempt Delay".
const APART: Duration = Duration::from_millis(250);
/// The first attempt; about what a script takes to open a door.
const SHORTEST: Duration = Duration::from_millis(50);
/// More than any round trip.
const LONGEST: Duration = Duration::from_secs(4);
/// Between attempts that fail at once.
const SLOWEST_RETRY: Duration = Duration::from_secs(1);
/// Less is no time to connect in.
const MOMENT: Duration = Duration::from_millis(1);
/// When what may have been lost is repeated: as TCP does.
const REPEATS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];
