//! What every contender can do: be started, and have knocks made for it.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Try;
use crate::process::Process;

/// A knock system under measurement.
pub(crate) trait Contender {
    /// As tables call it.
    fn name(&self) -> &'static str;

    /// Starts its daemon afresh, with no knock remembered, in its own network namespace, which this thread then is in.
    fn start(&self, limits: Limits) -> Try<Running>;

    /// Datagrams that are valid from now on for more than a minute, each with another token.
    fn knocks(&self, count: usize) -> Try<Vec<Knock>>;

    /// What all its knocks of this minute begin their stamp with, if they have one.
    fn beacon(&self) -> Option<[u8; 8]> {
        None
    }
}

/// How much one user may do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limits {
    /// As the daemon comes.
    Shipped,
    /// As much as the daemon can.
    Lifted,
}

/// A started daemon.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) to: SocketAddrV4,
}

/// A datagram, and what its script will say.
#[derive(Clone, Debug)]
pub(crate) struct Knock {
    pub(crate) token: u32,
    pub(crate) datagram: Vec<u8>,
}

/// Another number on each call. Eight digits, which is also base64 of six bytes.
pub(crate) fn token() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(10_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
