//! The sockets: which of them may have more, and the kernel's sieve on each.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use libc::sock_filter;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use socket2::{SockFilter, SockRef};

use super::Datagram;
use super::filter::{self, Sieve};
use crate::channel::{Plain, Reply, SocketId, Takes};
use crate::clock::Now;
use port::Port;

mod port;

/// All of them: those for stamped datagrams first.
#[derive(Debug)]
pub(super) struct Sockets(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    number: SocketId,
    takes: Takes,
    port: Port,
    drained: Drained,
    flood: Flood,
}

/// mio is edge-triggered, so a drain that stopped early must be taken up again without being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// Until the next event.
    Empty,
    /// The budget ended first: again at once.
    More,
    /// There may be datagrams behind an error: again at the next wake, and not at once, for it may come again.
    Failed,
}

/// Whether a socket gets more than can be read, and what share of it is let through.
#[derive(Clone, Copy, Debug, Default)]
struct Flood {
    /// Since when (monotonic) it has not been empty, and how often its whole budget was read since.
    full_since: Option<(Duration, u32)>,
    /// It was full, or its share was changed, last.
    changed_at: Duration,
    /// One of 2^`halvings` plain datagrams is let through.
    halvings: u32,
}

/// What kernel filters are made of besides a socket's own.
pub(super) struct Mesh<'a> {
    pub(super) modulus: &'a [u8],
    pub(super) plain: Plain,
    pub(super) beacons: &'a [[u8; 8]],
}

impl Sockets {
    pub(super) fn register(descriptors: Vec<(Takes, OwnedFd)>, poll: &Poll) -> io::Result<Sockets> {
        let mut sockets = Vec::with_capacity(descriptors.len());
        for (number, (takes, descriptor)) in (0..).zip(descriptors) {
            let socket = std::net::UdpSocket::from(descriptor);
            socket.set_nonblocking(true)?;
            let mut socket = UdpSocket::from_std(socket);
            poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
            // The keeper hands over 64 at most.
            let number = SocketId(u8::try_from(number).unwrap_or(u8::MAX));
            let port = Port::new(socket)?;
            sockets.push(Socket { number, takes, port, drained: Drained::More, flood: Flood::default() });
        }
        sockets.sort_by_key(|socket| socket.takes == Takes::Plain);
        Ok(Sockets(sockets))
    }

    pub(super) fn any_ready(&self) -> bool {
        self.0.iter().any(|socket| socket.drained == Drained::More)
    }

    pub(super) fn mark_ready(&mut self, events: &Events) {
        for event in events {
            let number = u8::try_from(event.token().0).map(SocketId);
            if let Some(socket) = self.0.iter_mut().find(|socket| Ok(socket.number) == number) {
                socket.drained = Drained::More;
            }
        }
    }

    /// Reads what there is, of each socket a share.
    pub(super) fn drain(
        &mut self,
        now: Now,
        buffer: &mut [u8],
        mut take: impl FnMut(Datagram<'_>),
        mut failed: impl FnMut(),
    ) {
        for socket in &mut self.0 {
            if socket.drained != Drained::Empty {
                socket.drain(buffer, &mut take, &mut failed);
            }
            socket.flood.look(now, socket.drained);
        }
    }

    /// Sends an answer by the socket that was knocked.
    pub(super) fn send(&self, reply: &Reply) -> io::Result<()> {
        let socket = self.0.iter().find(|socket| socket.number == reply.socket);
        socket.ok_or(io::ErrorKind::NotFound)?.port.send(&reply.bytes, reply.to, reply.from)
    }

    /// Replaces every filter. How many the kernel refused: those that are attached stay.
    pub(super) fn sift(&self, mesh: &Mesh<'_>) -> usize {
        self.0.iter().filter(|socket| socket.sift(mesh).is_err()).count()
    }

    /// Lets more or less of a flood through, where that is due. How many filters the kernel refused.
    pub(super) fn adapt(&mut self, now: Now, mesh: &Mesh<'_>) -> usize {
        let changed = self.0.iter_mut().filter(|socket| socket.takes != Takes::Stamped);
        changed
            .filter_map(|socket| socket.flood.adapt(now).then(|| socket.sift(mesh)))
            .filter(Result::is_err)
            .count()
    }

    /// Whether only a share of the plain datagrams is let through, and whether stamped ones come faster than they are read.
    pub(super) fn flooded(&self, now: Now) -> (bool, bool) {
        let plain = self.0.iter().any(|socket| socket.flood.halvings > 0);
        let stamped = |socket: &Socket| socket.takes != Takes::Plain && socket.flood.is_full(now);
        (plain, self.0.iter().any(stamped))
    }
}

impl Socket {
    fn drain(&mut self, buffer: &mut [u8], take: &mut impl FnMut(Datagram<'_>), failed: &mut impl FnMut()) {
        let budget = if self.takes == Takes::Plain { PLAIN } else { STAMPED };
        for _ in 0..budget {
            match self.port.receive(buffer) {
                Ok((len, source, local)) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    take(Datagram { source, local, socket: self.number, takes: self.takes, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.drained = if error.kind() == io::ErrorKind::WouldBlock {
                        Drained::Empty
                    } else {
                        failed();
                        Drained::Failed
                    };
                    return;
                }
            }
        }
    }

    fn sift(&self, mesh: &Mesh<'_>) -> io::Result<()> {
        let sieve = Sieve {
            takes: self.takes,
            plain: mesh.plain,
            share: (self.flood.halvings > 0).then_some(u32::MAX >> self.flood.halvings),
            modulus: mesh.modulus,
            beacons: mesh.beacons,
        };
        let program = sieve.program();
        // The one that is there counts beside the one that takes its place: where net.core.optmem_max has no room for both (20 KiB
        // on older kernels, an hour of two keys' beacons is 13), it goes first.
        self.attach(&program).or_else(|_| {
            self.attach(&filter::open())?;
            self.attach(&program)
        })
    }

    fn attach(&self, program: &[sock_filter]) -> io::Result<()> {
        let program: Vec<_> =
            program.iter().map(|line| SockFilter::new(line.code, line.jt, line.jf, line.k)).collect();
        SockRef::from(&self.port.socket).attach_filter(&program)
    }
}

impl Flood {
    fn look(&mut self, now: Now, drained: Drained) {
        match drained {
            Drained::More => {
                let (_, budgets) = self.full_since.get_or_insert((now.mono, 0));
                *budgets = budgets.saturating_add(1);
            }
            Drained::Empty | Drained::Failed => self.full_since = None,
        }
    }

    /// A listener that did not run for a while finds as much as its buffers hold, and that is no flood.
    fn is_full(&self, now: Now) -> bool {
        self.full_since
            .is_some_and(|(since, budgets)| budgets >= BUDGETS && now.mono.saturating_sub(since) >= FULL)
    }

    /// Half as many while the socket does not run empty, twice as many after a while in which it did. Never from the
    /// kernel's count of drops: what a filter drops is among them.
    fn adapt(&mut self, now: Now) -> bool {
        let quiet = now.mono.saturating_sub(self.changed_at);
        if self.is_full(now) && quiet >= FULL {
            self.changed_at = now.mono;
            let more = self.halvings < HALVINGS;
            self.halvings = self.halvings.saturating_add(more.into());
            more
        } else if self.halvings > 0 && self.full_since.is_none() && quiet >= RELAX {
            self.changed_at = now.mono;
            self.halvings = self.halvings.saturating_sub(1);
            true
        } else {
            false
        }
    }
}

/// Datagrams from one socket before the others have their turn.
const STAMPED: usize = 256;
const PLAIN: usize = 64;

/// A socket that was not empty for so long, and of which more was read meanwhile than its buffer holds (some 2,700
/// datagrams in 2 MiB), gets more than can be read.
const FULL: Duration = Duration::from_millis(100);
const BUDGETS: u32 = 64;

/// A share is doubled when its socket ran empty for so long.
const RELAX: Duration = Duration::from_secs(2);

/// One of 1024 plain datagrams, at least.
const HALVINGS: u32 = 10;

#[cfg(test)]
mod tests;
