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
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use subtle::Choice;
use zeroize::Zeroizing;

pub use codec::Malformed;
pub use pair::{Channel, Received, Sent};

use crate::reason::DropReason;
use crate::wire::rsa_key::MODULUS_MAX;
use crate::wire::stamp::{STAMP_LEN, StampKey};
use crate::wire::{KnockId, PLAINTEXT_LEN, UserId};

/// Longest message in bytes: `Setup` with the PKCS#8 forms of two of the longest keys has under 9,500.
pub const MESSAGE_MAX: usize = 10 * 1024;

/// From the listener.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is the large one, and it lives briefly on the stack"
)]
pub enum ToKeeper {
    /// Locked in, set up: from here on datagrams are received.
    Ready,
    /// A sealed datagram was opened.
    Opened(Opened),
    /// What has been refused since the start.
    Counts(Counts),
    /// Where what was refused since the last one came from, as far as there is room: at most [`SOURCES_MAX`].
    Sources(Vec<RefusedFrom>),
    /// The loop turns: at least every [`ALIVE_EVERY`].
    Alive,
}

/// From the keeper. `Setup` comes first, then `Limits`, sockets and stamp keys, then `Begin`; after that all but `Setup`,
/// `Socket` and `Begin` at any time.
#[derive(Debug)]
pub enum ToListener {
    /// The first message.
    Setup(Setup),
    /// What to go by, now or from now on.
    Limits(Limits),
    /// One of the sockets to receive on; its descriptor comes along.
    Socket(SocketId, Takes),
    /// Who may stamp; at most [`STAMP_KEYS_MAX`] in one message.
    StampKeys(StampKeys),
    /// That was all: lock in, then receive.
    Begin,
    /// Somebody knocked well from here.
    Settled(IpAddr),
    /// What a knock is answered with.
    Reply(Reply),
    /// Receive no more, finish what is queued, report, end.
    Stop,
}

/// Everything a listener needs to lock itself in and to open what it receives.
pub struct Setup {
    /// The RSA private key, PKCS#8 DER.
    pub private_key: Zeroizing<Vec<u8>>,
    /// The one before, while both are good. In the same form, and with as long a modulus.
    pub old_private_key: Option<Zeroizing<Vec<u8>>>,
    /// Worker threads, at least one.
    pub workers: u16,
    /// Sealed datagrams that may wait for a worker.
    pub queue: u32,
    /// How much it locks itself in.
    pub confinement: Confinement,
    /// User and group to become; `None`: to stay.
    pub user: Option<(u32, u32)>,
}

/// Whether a listener locks itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// With every layer that this kernel has; one that it has and refuses ends the listener.
    On,
    /// Not at all.
    Off,
}

/// What a listener goes by when it decides what is worth a private-key operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest accepted distance between a stamp's epoch and the wall clock, in seconds.
    pub freshness: u32,
    /// Whether plain knocks are taken at all.
    pub plain: Plain,
    /// Stamped datagrams per second of one user.
    pub user_rate: u32,
    /// Stamped datagrams a user may send at once.
    pub user_burst: u32,
    /// Plain datagrams per second of one /32 or /64, when the private-key operations are short.
    pub prefix_rate: u32,
    /// And at once.
    pub prefix_burst: u32,
    /// Prefixes that have a bucket of their own.
    pub prefixes: u32,
}

/// Whether plain knocks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// As siglatch v1 clients send them.
    Taken,
    /// Only stamped ones are (`require_stamp`).
    Refused,
}

/// A change of who may stamp.
#[derive(Debug, Default)]
pub struct StampKeys {
    /// These no more; one that is also added has a new key.
    pub removed: Vec<UserId>,
    /// These from now on.
    pub added: Vec<(UserId, StampKey)>,
}

/// The kind of datagram that a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// As long as the modulus.
    Plain,
    /// And a stamp longer.
    Stamped,
    /// Both: a socket that is alone on its address.
    Both,
}

/// The way on which a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Without a stamp.
    Plain,
    /// With a stamp of this user's, verified. The listener could lie about it.
    Stamped(UserId),
}

/// Which of the server's keys a datagram was sealed under.
///
/// A number, and nothing to be matched: of a plain datagram the padding decides, and until its HMAC has verified nothing may
/// take its time by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Under(u8);

impl Under {
    /// The one that new invites have; and where neither key opened it.
    pub const CURRENT: Under = Under(0);
    /// The one before.
    pub const OLD: Under = Under(1);

    /// By whether it is the old one, in constant time.
    pub fn old_if(old: Choice) -> Under {
        Under(old.unwrap_u8())
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Setup(****)")
    }
}

/// The place of a socket among those that were handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(pub u8);

/// 245 bytes that came out of a sealed datagram, or that implicit rejection put in their place: nothing about them
/// is known.
pub struct Opened {
    /// Where the datagram came from; `::ffff:` folded. The listener could lie about it.
    pub source: SocketAddr,
    /// The address that was knocked; unspecified where the kernel did not say. The listener could lie about it.
    pub local: IpAddr,
    /// The socket it came in by.
    pub socket: SocketId,
    /// Whether it was stamped, and by whom.
    pub lane: Lane,
    /// Under which key it was sealed. The listener could lie about it.
    pub under: Under,
    /// SHA-256 of the sealed packet, without its stamp.
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

/// An answer, to be sent as it is, and perhaps again. What is in it the listener can neither read nor make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// SHA-256 of the sealed packet that it answers, without its stamp.
    pub digest: [u8; 32],
    /// The socket that was knocked.
    pub socket: SocketId,
    /// Where the knock came from.
    pub to: SocketAddr,
    /// The address that was knocked; unspecified: the kernel may choose.
    pub from: IpAddr,
    /// Last moment, Unix seconds, at which a copy of the knock gets it again; 0: none does.
    pub until: u32,
    /// At most [`REPLY_MAX`].
    pub bytes: Vec<u8>,
}

/// What the listener counts, totals since its start. Everything else that it received it opened, or has with its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Answers that could not be sent.
    pub send_errors: u64,
    /// By [`Counts::REASONS`].
    pub refused: [u64; Counts::REASONS.len()],
    /// How full the lanes are, now.
    pub lanes: Lanes,
}

/// Refused datagrams of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedFrom {
    /// The address that the last of them claimed to come from.
    pub source: IpAddr,
    /// One of [`Counts::REASONS`], from a listener.
    pub reason: DropReason,
    /// At least so many.
    pub count: u32,
}

/// How full the lanes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Of plain datagrams; they are short as well when they are shared out by chance.
    pub plain: Load,
    /// Of stamped ones; they are short when they are read slower than they come.
    pub stamped: Load,
}

/// How full a lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Datagrams that wait for a private-key operation.
    pub waiting: u32,
    /// Whether more come than can be taken.
    pub short: bool,
}

impl Load {
    const NONE: Load = Load { waiting: 0, short: false };
}

impl Counts {
    /// At the start.
    pub const ZERO: Counts = Counts {
        receive_errors: 0,
        send_errors: 0,
        refused: [0; Counts::REASONS.len()],
        lanes: Lanes { plain: Load::NONE, stamped: Load::NONE },
    };

    /// Why a listener refuses.
    pub const REASONS: [DropReason; 11] = [
        DropReason::Length,
        DropReason::Range,
        DropReason::Unstamped,
        DropReason::Seen,
        DropReason::Copied,
        DropReason::Beacon,
        DropReason::Stamp,
        DropReason::StampRate,
        DropReason::Prefix,
        DropReason::Queue,
        DropReason::Channel,
    ];
}

/// Most networks in one message.
pub const SOURCES_MAX: usize = 32;

/// Longest answer, in bytes: as long as the longest knock.
pub const REPLY_MAX: usize = MODULUS_MAX + STAMP_LEN;

/// How often a listener says that it is alive.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Most keys, and most removals, in one message.
pub const STAMP_KEYS_MAX: usize = 200;

#[cfg(test)]
mod tests;
