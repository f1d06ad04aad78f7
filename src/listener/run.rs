//! The listener's loop: channel and sockets in, sealed datagrams to the pool, counts to the keeper.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::opener::{Opener, UnusableKey};
use super::pool::Pool;
use super::setup::{self, Begun};
use super::tally::Tally;
use super::{Admission, Datagram, ListenerError, Step, sandbox};
use crate::channel::{
    ALIVE_EVERY, Channel, Counts, MESSAGE_MAX, Received, Sent, SocketId, ToKeeper, ToListener,
};
use crate::clock::Clock;
use crate::wire::PrivateKey;

/// Takes over key and sockets from `channel`, then receives until it is told to stop or the keeper is gone.
///
/// # Errors
///
/// [`ListenerError`] when it cannot start. Nothing about a datagram is ever an error.
pub(super) fn run(channel: Channel) -> Result<(), ListenerError> {
    let channel = Arc::new(channel);
    let tally = Arc::new(Tally::default());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&channel.as_raw_fd()), CHANNEL, Interest::READABLE)?;

    let Begun { setup, limits, sockets, keys } = setup::hear(&channel, &mut poll)?;
    drop((limits, keys));
    sandbox::enter(&setup)?;
    let key = PrivateKey::from_der(&setup.private_key).map_err(|_| UnusableKey)?;
    let opener = Opener::new(&setup.private_key)?;
    let queue = usize::try_from(setup.queue).unwrap_or(usize::MAX);
    let mut warm_up = key.public().modulus();
    let admission = Admission::new(warm_up.clone());
    // Half of the modulus or less: it is below it.
    warm_up.iter_mut().for_each(|byte| *byte >>= 1);
    let pool = Pool::start(opener, warm_up, setup.workers, queue, &channel, &tally)?;
    let confinement = setup.confinement;
    drop((setup, key));

    let sockets = sockets.into_iter().map(|(_, socket)| socket).collect();
    let mut sockets = Sockets::register(sockets, &poll)?;
    sandbox::close(confinement, channel.as_raw_fd())?;
    #[cfg(feature = "crash-points")]
    super::misbehave::before_ready();
    if channel.send(&ToKeeper::Ready.encode(), None) != Sent::Yes {
        return Err(ListenerError::Setup);
    }
    #[cfg(feature = "crash-points")]
    super::misbehave::after_ready(&channel);
    receive(&channel, &mut poll, &mut sockets, &admission, &pool, &tally)?;
    drop(sockets);
    pool.finish();
    // The keeper may have gone first: then nobody wants to know.
    let _last = channel.send_patiently(&ToKeeper::Counts(tally.counts()).encode(), REPORT);
    Ok(())
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
    let (mut reported, mut reported_at, mut alive_at) = (Counts::ZERO, Duration::ZERO, Duration::ZERO);
    loop {
        let timeout = if sockets.any_ready() { Duration::ZERO } else { REPORT };
        wait(poll, &mut events, Some(timeout))?;
        loop {
            match channel.receive(&mut message) {
                Received::Empty => break,
                Received::Message(len, _) => {
                    let message = message.get(..len).and_then(|bytes| ToListener::decode(bytes).ok());
                    if let Some(ToListener::Stop) | None = message {
                        return Ok(());
                    }
                }
                Received::End => return Ok(()),
            }
        }
        sockets.mark_ready(&events);
        sockets.drain(
            &mut buffer,
            |datagram| take(datagram, admission, pool, tally),
            || tally.receive_error(),
        );
        let (counts, now) = (tally.counts(), clock.now().mono);
        if now.saturating_sub(alive_at) >= ALIVE_EVERY {
            alive_at = now;
            let _full_or_closed = channel.send(&ToKeeper::Alive.encode(), None);
        }
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

pub(super) fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
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
