//! The messages between listener and keeper, their codec, and the socket pair they travel on.
//!
//! In: messages, bytes. Out: bytes, messages. Never: the network, files, clocks, processes, the log.
//!
//! One message is one SOCK_SEQPACKET datagram: a type byte, then fixed fields, all integers big-endian. The set is
//! closed: an unknown type, a field that ends early and a byte too many are all [`Malformed`], and that ends the
//! listener, for the keeper takes nothing from it on trust.

mod codec;
mod pair;

use std::fmt;
use std::net::SocketAddr;

use zeroize::Zeroizing;

pub use codec::Malformed;
pub use pair::{Channel, Received, Sent};

use crate::reason::DropReason;
use crate::wire::{KnockId, PLAINTEXT_LEN};

/// Longest message in bytes: `Setup` with the PKCS#8 form of the longest key has under 6,000.
pub const MESSAGE_MAX: usize = 8192;

/// From the listener.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is the large one, and it lives briefly on the stack"
)]
pub enum ToKeeper {
    /// Set up, sockets taken over: from here on datagrams are received.
    Ready,
    /// A sealed datagram was opened.
    Opened(Opened),
    /// What has been received and refused since the start.
    Counts(Counts),
}

/// From the keeper.
#[derive(Debug)]
pub enum ToListener {
    /// The first message.
    Setup(Setup),
    /// One of the sockets to receive on; its descriptor comes along.
    Socket(SocketId),
    /// Receive no more, finish what is queued, report, end.
    Stop,
}

/// Everything a listener needs besides its sockets.
pub struct Setup {
    /// The RSA private key, PKCS#8 DER.
    pub private_key: Zeroizing<Vec<u8>>,
    /// Worker threads, at least one.
    pub workers: u16,
    /// Sealed datagrams that may wait for a worker.
    pub queue: u32,
    /// How many `Socket` messages follow.
    pub sockets: u8,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Setup(****)")
    }
}

/// The place of a socket in `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(pub u8);

/// 245 bytes that came out of a sealed datagram, or that implicit rejection put in their place: nothing about them
/// is known.
pub struct Opened {
    /// Where the datagram came from; `::ffff:` folded. The listener could lie about it.
    pub source: SocketAddr,
    /// The socket it came in by.
    pub socket: SocketId,
    /// SHA-256 of the datagram.
    pub digest: [u8; 32],
    /// What was in it.
    pub plaintext: Zeroizing<[u8; PLAINTEXT_LEN]>,
}

impl Opened {
    /// The datagram's name in logs.
    pub fn knock(&self) -> KnockId {
        KnockId::of(self.digest)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} from {})", self.knock(), self.source)
    }
}

/// Totals since the listener's start: `received = opened + refused + what is still with the workers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams read from the sockets.
    pub received: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// By [`Counts::REASONS`].
    pub refused: [u64; Counts::REASONS.len()],
}

impl Counts {
    /// Why a listener refuses.
    pub const REASONS: [DropReason; 4] =
        [DropReason::Length, DropReason::Range, DropReason::Queue, DropReason::Channel];
}

#[cfg(test)]
mod tests;
