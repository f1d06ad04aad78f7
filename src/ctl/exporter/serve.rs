//! The loop: connections in, pages out.
//!
//! In: a listening socket. Out: what [`super::pages`] say. Never: a blocking call, an error that a client caused.
//!
//! # Security considerations
//!
//! A client may send slowly, or nothing, or not read. Each has its time. When all places are taken, whoever has sent nothing
//! for longest loses his to who comes now, so silent ones keep nobody out.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::connection::{Connection, Left};
use super::poller::Poller;
use crate::clock::{Clock, Now};
use crate::control::status::Status;
use crate::exit::Failure;

/// Serves what `fetch` gets, for ever.
///
/// # Errors
///
/// The machine gave no descriptor or thread; nothing that a client does.
pub(super) fn serve(
    listener: std::net::TcpListener,
    fetch: impl FnMut() -> Result<Status, Failure> + Send + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listener);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let poller = Poller::start(fetch, Waker::new(poll.registry(), ANSWER)?)?;
    let mut server = Server { listener, poller, connections: Default::default(), accept_at: None };
    let clock = Clock::start();
    let mut events = Events::with_capacity(PLACES.saturating_mul(2));
    loop {
        let now = clock.now().mono;
        let timeout = server.next_deadline().map(|at| at.saturating_sub(now).saturating_add(TICK));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let now = clock.now();
        for event in &events {
            server.ready(now, event.token(), &poll);
        }
        server.due(now, &poll);
    }
}

struct Server {
    listener: TcpListener,
    poller: Poller,
    connections: [Option<Connection>; PLACES],
    /// When (monotonic) there may be somebody to accept whom nobody will tell of.
    accept_at: Option<Duration>,
}

impl Server {
    fn next_deadline(&self) -> Option<Duration> {
        self.connections.iter().flatten().map(Connection::until).chain(self.accept_at).min()
    }

    fn ready(&mut self, now: Now, token: Token, poll: &Poll) {
        match token {
            LISTENER => self.accept(now, poll),
            ANSWER => {
                self.poller.arrived(now);
                (0..PLACES).for_each(|at| self.advance(now, at));
            }
            Token(token) => self.advance(now, token.saturating_sub(FIRST)),
        }
    }

    fn due(&mut self, now: Now, poll: &Poll) {
        for place in &mut self.connections {
            place.take_if(|connection| connection.due(now) == Left::Nothing);
        }
        if self.accept_at.take_if(|at| *at <= now.mono).is_some() {
            self.accept(now, poll);
        }
    }

    /// Everybody who waits, but not without an end.
    fn accept(&mut self, now: Now, poll: &Poll) {
        for _ in 0..BUDGET {
            match self.listener.accept() {
                Ok((stream, _)) => self.seat(now, stream, poll),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => {
                    self.accept_at = Some(now.mono.saturating_add(PAUSE));
                    return;
                }
            }
        }
        self.accept_at = Some(now.mono);
    }

    fn seat(&mut self, now: Now, mut stream: TcpStream, poll: &Poll) {
        let order = |at: &usize| self.connections.get(*at).and_then(Option::as_ref).map(Connection::claim);
        // A free place comes first.
        let Some(at) = (0..PLACES).min_by_key(order) else { return };
        let token = Token(at.saturating_add(FIRST));
        if poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        if let Some(place) = self.connections.get_mut(at) {
            *place = Some(Connection::new(now, stream));
        }
        // What it has sent already counts before anybody else comes.
        self.advance(now, at);
    }

    fn advance(&mut self, now: Now, at: usize) {
        if let Some(place) = self.connections.get_mut(at) {
            place.take_if(|connection| connection.advance(now, &mut self.poller) == Left::Nothing);
        }
    }
}

const LISTENER: Token = Token(0);
const ANSWER: Token = Token(1);
const FIRST: usize = 2;

/// Connections at once.
const PLACES: usize = 32;

/// Connections accepted per wake.
const BUDGET: usize = 64;

/// After a machine that had no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// The poll counts whole ones, and one too early would spin.
const TICK: Duration = Duration::from_millis(1);
