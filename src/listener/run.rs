//! The listener's loop: channel and sockets in, sealed datagrams to the pool, counts to the keeper.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::opener::{Opener, UnusableKey};
use super::pool::Pool;
use super::tally::Tally;
use super::{Admission, Datagram, Step};
use crate::channel::{Channel, Counts, MESSAGE_MAX, Received, Sent, Setup, SocketId, ToKeeper, ToListener};
use crate::clock::Clock;
use crate::wire::PrivateKey;

/// Why a listener cannot start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The keeper said something else than set-up and sockets, or went away.
    #[error("the keeper did not finish the set-up")]
    Setup,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] UnusableKey),
    /// The operating system refused threads, descriptors or polling.
    #[error("cannot start the listener: {0}")]
    Io(#[from] io::Error),
}

/// Takes over key and sockets from `channel`, then receives until it is told to stop or the keeper is gone.
///
/// # Errors
///
/// [`ListenerError`] when it cannot start. Nothing about a datagram is ever an error.
pub fn run(channel: Channel) -> Result<(), ListenerError> {
    let channel = Arc::new(channel);
    let tally = Arc::new(Tally::default());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&channel.as_raw_fd()), CHANNEL, Interest::READABLE)?;

    let (setup, sockets) = set_up(&channel, &mut poll)?;
    let key = PrivateKey::from_der(&setup.private_key).map_err(|_| UnusableKey)?;
    let opener = Opener::new(&setup.private_key)?;
    let queue = usize::try_from(setup.queue).unwrap_or(usize::MAX);
    let pool = Pool::start(opener, setup.workers, queue, &channel, &tally)?;
    let admission = Admission::new(key.public().modulus());
    drop((setup, key));

    let mut sockets = Sockets::register(sockets, &poll)?;
    if channel.send(&ToKeeper::Ready.encode(), None) != Sent::Yes {
        return Err(ListenerError::Setup);
    }
    receive(&channel, &mut poll, &mut sockets, &admission, &pool, &tally)?;
    drop(sockets);
    pool.finish();
    // The keeper may have gone first: then nobody wants to know.
    let _last = channel.send_patiently(&ToKeeper::Counts(tally.counts()).encode(), REPORT);
    Ok(())
}

/// Waits for the set-up and its sockets.
fn set_up(channel: &Channel, poll: &mut Poll) -> Result<(Setup, Vec<OwnedFd>), ListenerError> {
    let mut buffer = zeroize::Zeroizing::new([0; MESSAGE_MAX]);
    let mut events = Events::with_capacity(1);
    let mut setup: Option<Setup> = None;
    let mut sockets = Vec::new();
    loop {
        match channel.receive(&mut buffer) {
            Received::Message(len, descriptor) => {
                let message = buffer.get(..len).and_then(|bytes| ToListener::decode(bytes).ok());
                match (message, descriptor) {
                    (Some(ToListener::Setup(new)), None) if setup.is_none() => setup = Some(new),
                    (Some(ToListener::Socket(..)), Some(socket)) => sockets.push(socket),
                    (Some(ToListener::Limits(_) | ToListener::StampKeys(_)), None) => {}
                    (Some(ToListener::Begin), None) => {
                        return setup.map(|setup| (setup, sockets)).ok_or(ListenerError::Setup);
                    }
                    (_, _) => return Err(ListenerError::Setup),
                }
            }
            Received::Empty => wait(poll, &mut events, None)?,
            Received::End => return Err(ListenerError::Setup),
        }
    }
}

fn receive(
    channel: &Channel,
    poll: &mut Poll,
    sockets: &mut Sockets,
    admission: &Admission,
    pool: &Pool,
    tally: &Tally,
) -> Result<(), ListenerError> {
    let mut events = Events::with_capacity(64);
    let mut buffer = admission.buffer();
    let mut message = [0; MESSAGE_MAX];
    let clock = Clock::start();
    let (mut reported, mut reported_at) = (Counts::ZERO, Duration::ZERO);
    loop {
        let timeout = if sockets.any_ready() { Duration::ZERO } else { REPORT };
        wait(poll, &mut events, Some(timeout))?;
        match channel.receive(&mut message) {
            Received::Empty => {}
            // Whatever else a keeper could say now is no reason to go on receiving.
            Received::Message(..) | Received::End => return Ok(()),
        }
        sockets.mark_ready(&events);
        sockets.drain(
            &mut buffer,
            |datagram| take(datagram, admission, pool, tally),
            || tally.receive_error(),
        );
        let (counts, now) = (tally.counts(), clock.now().mono);
        if counts != reported && now.saturating_sub(reported_at) >= REPORT {
            match channel.send(&ToKeeper::Counts(counts).encode(), None) {
                Sent::Yes => (reported, reported_at) = (counts, now),
                // They are totals: the next report makes up for this one.
                Sent::Full | Sent::Closed => {}
            }
        }
    }
}

/// Queues a datagram for a worker, or counts why not.
pub(super) fn take(datagram: Datagram<'_>, admission: &Admission, pool: &Pool, tally: &Tally) {
    let taken = match admission.datagram(datagram) {
        Step::Open(sealed) => pool.offer(sealed),
        Step::Drop(reason) => Err(reason),
    };
    if let Err(reason) = taken {
        tally.refused(reason);
    }
}

fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        polled => polled,
    }
}

/// The sockets, and which of them may have more: mio is edge-triggered, so a drain that stopped early must be taken up
/// again without being told.
struct Sockets(Vec<(UdpSocket, Drained)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// Until the next event.
    Empty,
    /// The budget ended first: again at once.
    More,
    /// There may be datagrams behind an error: again at the next wake, and not at once, for it may come again.
    Failed,
}

impl Sockets {
    fn register(descriptors: Vec<OwnedFd>, poll: &Poll) -> io::Result<Sockets> {
        let mut sockets = Vec::with_capacity(descriptors.len());
        for (number, descriptor) in descriptors.into_iter().enumerate() {
            let socket = std::net::UdpSocket::from(descriptor);
            socket.set_nonblocking(true)?;
            let mut socket = UdpSocket::from_std(socket);
            poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
            sockets.push((socket, Drained::More));
        }
        Ok(Sockets(sockets))
    }

    fn any_ready(&self) -> bool {
        self.0.iter().any(|(_, drained)| *drained == Drained::More)
    }

    fn mark_ready(&mut self, events: &Events) {
        for event in events {
            if let Some((_, drained)) = self.0.get_mut(event.token().0) {
                *drained = Drained::More;
            }
        }
    }

    fn drain(&mut self, buffer: &mut [u8], mut take: impl FnMut(Datagram<'_>), mut failed: impl FnMut()) {
        for (number, (socket, drained)) in self.0.iter_mut().enumerate() {
            if *drained == Drained::Empty {
                continue;
            }
            for _ in 0..BUDGET {
                match socket.recv_from(buffer) {
                    Ok((len, source)) => {
                        // `listen` has at most 16 addresses.
                        let socket = SocketId(u8::try_from(number).unwrap_or(u8::MAX));
                        take(Datagram { source, socket, bytes: buffer.get(..len).unwrap_or_default() });
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        *drained = if error.kind() == io::ErrorKind::WouldBlock {
                            Drained::Empty
                        } else {
                            failed();
                            Drained::Failed
                        };
                        break;
                    }
                }
            }
        }
    }
}

/// Beyond any socket's number.
const CHANNEL: Token = Token(usize::MAX - 1);

/// Datagrams from one socket before the others have their turn.
const BUDGET: usize = 64;

/// How often counts are told when something was received.
const REPORT: Duration = Duration::from_millis(500);
