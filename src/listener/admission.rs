//! Which datagrams are worth a private-key operation, cheapest check first. Pure.
//!
//! In: what a socket gave, the time, who may stamp, who knocked well lately. Out: a [`Sealed`], with the lane it waits in,
//! or why not.
//!
//! # Security considerations
//!
//! Everything here is asked by strangers, at whatever rate their wire has. Nothing allocates, nothing sweeps a table, and
//! nothing grows without a bound for a datagram that is refused. A stamp is counted as seen only when it is given its
//! operation, so that junk cannot wash anything out, and is remembered as long as it could be used.

mod plain;
mod stamps;

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest as _, Sha256};

use crate::channel::{Lane, Limits, Plain, SocketId, StampKeys, Takes, Under};
use crate::clock::Now;
use crate::reason::DropReason;
use crate::wire::address::folded;
use crate::wire::stamp::{STAMP_LEN, Stamped};
use crate::wire::{BeaconKey, UserId};
use plain::Strangers;
use stamps::Stamps;

/// What a socket gave: bytes, cut if there were more than one above the longest datagram taken.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// As the kernel names it.
    pub source: SocketAddr,
    /// What it was sent to; unspecified where the kernel did not say.
    pub local: IpAddr,
    /// The socket it came in by.
    pub socket: SocketId,
    /// What that socket is for.
    pub takes: Takes,
    /// What was received.
    pub bytes: &'a [u8],
}

/// A datagram that may be opened: as long as the modulus and below it, and its stamp, if it had one, is good.
#[derive(Debug)]
pub struct Sealed {
    source: SocketAddr,
    local: IpAddr,
    socket: SocketId,
    way: Way,
    /// As its beacon says.
    under: Option<Under>,
    mark: Mark,
    ciphertext: Box<[u8]>,
}

/// Where a datagram waits for its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Before all others, and in turns with other users.
    Stamped(UserId),
    /// Before strangers: it comes from where somebody knocked well lately.
    Settled,
    /// In what is left.
    Stranger,
}

impl Way {
    /// Whether it is that of plain datagrams.
    pub(super) fn is_plain(self) -> bool {
        match self {
            Way::Stamped(_) => false,
            Way::Settled | Way::Stranger => true,
        }
    }
}

/// How a datagram is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Tag([u8; 16]),
    Plain(u64),
}

impl Sealed {
    /// Where it came from; `::ffff:` folded.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The address that was knocked; unspecified where the kernel did not say.
    pub fn local(&self) -> IpAddr {
        self.local
    }

    /// The socket it came in by.
    pub fn socket(&self) -> SocketId {
        self.socket
    }

    /// Where it waits.
    pub fn way(&self) -> Way {
        self.way
    }

    /// What the keeper is told of its stamp.
    pub fn lane(&self) -> Lane {
        match self.way {
            Way::Stamped(user) => Lane::Stamped(user),
            Way::Settled | Way::Stranger => Lane::Plain,
        }
    }

    /// Which key opens it; `None`: that of a plain one nobody knows beforehand.
    pub fn under(&self) -> Option<Under> {
        self.under
    }

    /// As many bytes as the modulus has.
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }
}

#[cfg(test)]
impl Sealed {
    /// One that was let through by this way, with a number to know it by.
    pub(super) fn sample(way: Way, number: u64) -> Sealed {
        Sealed {
            source: SocketAddr::from(([192, 0, 2, 1], 9)),
            local: IpAddr::from([192, 0, 2, 9]),
            socket: SocketId(0),
            way,
            under: if way.is_plain() { None } else { Some(Under::CURRENT) },
            mark: Mark::Plain(number),
            ciphertext: number.to_be_bytes().into(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        u64::from_be_bytes((*self.ciphertext).try_into().unwrap())
    }
}

/// What to do with a datagram.
#[must_use]
#[derive(Debug)]
pub enum Step {
    /// Open it.
    Open(Sealed),
    /// Drop and count it.
    Drop(DropReason),
}

/// Looks at datagrams before any private key does.
#[derive(Debug)]
pub struct Admission {
    /// The larger one, where there are two keys.
    modulus: Vec<u8>,
    limits: Limits,
    stamps: Stamps,
    strangers: Strangers,
}

impl Admission {
    /// For a server with this modulus, big-endian.
    pub fn new(now: Now, modulus: Vec<u8>, beacon: BeaconKey, limits: Limits) -> Admission {
        let stamps = Stamps::new(now, beacon, limits.freshness.into());
        Admission { modulus, limits, stamps, strangers: Strangers::default() }
    }

    /// And takes what is for another key of this server's, whose modulus is as long.
    pub fn and_old(mut self, modulus: Vec<u8>, beacon: BeaconKey) -> Admission {
        // What is between the two can be sealed under one of them only, as its opener will see.
        self.modulus = self.modulus.max(modulus);
        self.stamps.add_old(beacon);
        self
    }

    /// A buffer in which a datagram that is too long is seen to be too long.
    pub fn buffer(&self) -> Vec<u8> {
        vec![0; self.modulus.len().saturating_add(STAMP_LEN).saturating_add(1)]
    }

    /// Goes by these from now on.
    pub fn set_limits(&mut self, now: Now, limits: Limits) {
        self.limits = limits;
        self.stamps.set_freshness(now, limits.freshness.into());
    }

    /// Who may stamp has changed.
    pub fn stamp_keys(&mut self, keys: &StampKeys) {
        keys.removed.iter().for_each(|user| self.stamps.remove(*user));
        keys.added.iter().for_each(|(user, key)| self.stamps.add(*user, key));
    }

    /// Somebody knocked well from here.
    pub fn settled(&mut self, now: Now, source: IpAddr) {
        self.strangers.settle(now, source);
    }

    /// Once per wake: what the clock brings. Whether the beacons are others now.
    pub fn tick(&mut self, now: Now) -> Beacons {
        self.stamps.roll(now)
    }

    /// Beacons that may be good before the next [`Beacons::Changed`], for the kernel's sieve.
    pub fn beacons(&self) -> Vec<[u8; 8]> {
        self.stamps.beacons()
    }

    /// As the kernel's sieve needs it.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Whether plain knocks are taken at all.
    pub fn plain(&self) -> Plain {
        self.limits.plain
    }

    /// Decides. `supply` says whether there are private-key operations enough for whoever asks.
    pub fn datagram(&mut self, now: Now, supply: Supply, datagram: Datagram<'_>) -> Step {
        let source = folded(datagram.source);
        let (plain, stamped) = match datagram.takes {
            Takes::Plain => (true, false),
            Takes::Stamped => (false, true),
            Takes::Both => (true, true),
        };
        let decided = match Stamped::split(datagram.bytes, self.modulus.len()) {
            Some(parts) if stamped => self.stamped(now, source.ip(), &parts),
            None if plain && datagram.bytes.len() == self.modulus.len() => {
                self.plain_one(now, supply, source.ip(), datagram.bytes)
            }
            Some(_) | None => Err(DropReason::Length),
        };
        match decided {
            Ok(Taken { way, under, mark, ciphertext }) => Step::Open(Sealed {
                source,
                local: datagram.local.to_canonical(),
                socket: datagram.socket,
                way,
                under,
                mark,
                ciphertext: ciphertext.into(),
            }),
            Err(reason) => Step::Drop(reason),
        }
    }

    /// SHA-256 of the sealed packet in a datagram that came before, byte for byte, with its stamp.
    pub fn copy(&self, datagram: &Datagram<'_>) -> Option<[u8; 32]> {
        let parts = Stamped::split(datagram.bytes, self.modulus.len())?;
        self.stamps.has_taken(&parts).then(|| Sha256::digest(parts.sealed).into())
    }

    /// One that was to be opened, and there was no room: it may come again.
    pub fn forget(&mut self, sealed: &Sealed) {
        match sealed.mark {
            Mark::Tag(tag) => self.stamps.forget(&tag),
            Mark::Plain(mark) => self.strangers.forget(mark),
        }
    }

    fn stamped<'a>(
        &mut self,
        now: Now,
        source: IpAddr,
        parts: &Stamped<'a>,
    ) -> Result<Taken<'a>, DropReason> {
        self.in_range(parts.sealed)?;
        let (user, under) = self.stamps.take(now, source, parts, &self.limits)?;
        let (way, mark) = (Way::Stamped(user), Mark::Tag(*parts.tag));
        Ok(Taken { way, under: Some(under), mark, ciphertext: parts.sealed })
    }

    fn plain_one<'a>(
        &mut self,
        now: Now,
        supply: Supply,
        source: IpAddr,
        bytes: &'a [u8],
    ) -> Result<Taken<'a>, DropReason> {
        if self.limits.plain == Plain::Refused {
            return Err(DropReason::Unstamped);
        }
        self.in_range(bytes)?;
        let (way, mark) = self.strangers.take(now, supply, source, bytes, &self.limits)?;
        Ok(Taken { way, under: None, mark: Mark::Plain(mark), ciphertext: bytes })
    }

    /// Both are public, and equally long: as numbers they compare as their bytes do.
    fn in_range(&self, ciphertext: &[u8]) -> Result<(), DropReason> {
        if ciphertext < self.modulus.as_slice() { Ok(()) } else { Err(DropReason::Range) }
    }
}

/// What is known of one that may be opened.
struct Taken<'a> {
    way: Way,
    under: Option<Under>,
    mark: Mark,
    ciphertext: &'a [u8],
}

/// Whether the kernel's sieve has to be made anew.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beacons {
    /// No.
    Same,
    /// Yes.
    Changed,
}

/// Whether there are private-key operations enough for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// There are.
    Ample,
    /// More ask than can be served: each prefix has its allowance.
    Short,
}

#[cfg(test)]
mod tests;
