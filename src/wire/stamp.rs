//! Stamps: 32 bytes behind a sealed packet that can be checked in well under a microsecond, before any private key.
//!
//! `beacon (8) | hint (8) | tag (16)`: the beacon is everybody's and names the epoch, the hint names the user to who has
//! his key, the tag binds both to the sealed packet. WIRE.md "Stamp".
//!
//! # Security considerations
//!
//! The beacon is a sieve and no secret: whoever watches the wire has it. A [`StampKey`] is derived one way from the
//! user's HMAC key and for one server, so that who holds it can stamp and can sign nothing.

use std::fmt;
use std::ops::RangeInclusive;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::reader::Reader;
use super::{HmacKey, PublicKey, UserId};

/// Bytes that a stamp adds to a sealed packet.
pub const STAMP_LEN: usize = 32;

/// Whether a knock is stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Postage {
    /// It is, which only a siglatchd takes.
    Stamped,
    /// It is not: the form of siglatch v1.
    Plain,
}

impl fmt::Display for Postage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Postage::Stamped => "stamped",
            Postage::Plain => "plain",
        })
    }
}

/// 64 seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Seconds in one.
    pub const SECONDS: u64 = 64;

    /// The one that `unix` seconds are in.
    pub fn of(unix: u64) -> Epoch {
        Epoch(unix / Epoch::SECONDS)
    }

    /// First and last epoch of the timestamps that are at most `freshness` seconds from `now`.
    pub fn window(now: u64, freshness: u64) -> RangeInclusive<Epoch> {
        Epoch::of(now.saturating_sub(freshness))..=Epoch::of(now.saturating_add(freshness))
    }
}

/// Makes beacons; anybody who has the server's public key can.
#[derive(Clone, Debug)]
pub struct BeaconKey(Keyed);

impl BeaconKey {
    /// Of the server with this key.
    pub fn of(server: &PublicKey) -> BeaconKey {
        BeaconKey(Keyed::new(&derive(None, &server.spki(), b"siglatch beacon 1")))
    }

    /// What every stamp of this epoch begins with.
    pub fn beacon(&self, epoch: Epoch) -> [u8; 8] {
        head(&self.0.mac(&[&epoch.0.to_be_bytes()]))
    }
}

/// A user's key for stamps at one server. Prints as a mask, compares in constant time, zeroizes on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StampKey([u8; 32]);

impl StampKey {
    /// Of the user with this HMAC key at the server with that public key.
    pub fn derive(server: &PublicKey, user: &HmacKey) -> StampKey {
        let salt = Sha256::digest(server.spki());
        StampKey(*derive(Some(&salt), user.bytes(), b"siglatch stamp 1"))
    }

    /// As it travels from keeper to listener.
    pub fn from_bytes(bytes: [u8; 32]) -> StampKey {
        StampKey(bytes)
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for StampKey {
    fn eq(&self, other: &StampKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for StampKey {}

impl fmt::Debug for StampKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StampKey(****)")
    }
}

/// A [`StampKey`] made ready: a tag takes six compressions of SHA-256, a third of a microsecond where the processor has
/// instructions for them. 144 bytes; prints as a mask, zeroizes on drop.
#[derive(Clone)]
pub struct Stamper(Keyed);

impl Stamper {
    /// With this key.
    pub fn new(key: &StampKey) -> Stamper {
        Stamper(Keyed::new(&key.0))
    }

    /// What finds the user: the same for all his stamps of an epoch.
    pub fn hint(&self, user: UserId, epoch: Epoch) -> [u8; 8] {
        head(&self.0.mac(&[b"hint", &user.0.to_be_bytes(), &epoch.0.to_be_bytes()]))
    }

    /// Over the sealed packet, beacon and hint.
    pub fn tag(&self, tagged: &[u8]) -> [u8; 16] {
        head(&self.0.mac(&[b"tag", tagged]))
    }

    /// Whether the datagram's tag was made with this key. Constant time.
    #[must_use]
    pub fn verifies(&self, stamped: &Stamped<'_>) -> bool {
        self.tag(stamped.tagged).ct_eq(stamped.tag).into()
    }
}

impl fmt::Debug for Stamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamper(****)")
    }
}

/// A datagram as long as a stamped one, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Stamped<'a> {
    /// As many bytes as the modulus has.
    pub sealed: &'a [u8],
    /// Names the epoch.
    pub beacon: [u8; 8],
    /// Names the user.
    pub hint: [u8; 8],
    /// What the tag is over: all before it.
    pub tagged: &'a [u8],
    /// Binds it all together.
    pub tag: &'a [u8; 16],
}

impl<'a> Stamped<'a> {
    /// `None` unless it is exactly a stamp longer than `modulus_len`.
    pub fn split(datagram: &'a [u8], modulus_len: usize) -> Option<Stamped<'a>> {
        let (tagged, tag) = datagram.split_last_chunk::<16>()?;
        let mut reader = Reader::new(tagged);
        let sealed = reader.bytes(modulus_len).ok()?;
        let (beacon, hint) = (*reader.array().ok()?, *reader.array().ok()?);
        reader.end().ok()?;
        Some(Stamped { sealed, beacon, hint, tagged, tag })
    }
}

/// The sealed packet with its stamp: what a client sends.
pub fn stamp(
    mut sealed: Vec<u8>,
    user: UserId,
    timestamp: u32,
    beacon: &BeaconKey,
    stamper: &Stamper,
) -> Vec<u8> {
    let epoch = Epoch::of(timestamp.into());
    sealed.extend(beacon.beacon(epoch));
    sealed.extend(stamper.hint(user, epoch));
    sealed.extend(stamper.tag(&sealed));
    sealed
}

/// HMAC-SHA256 whose key has gone in.
#[derive(Clone, Debug)]
struct Keyed(Hmac<Sha256>);

impl Keyed {
    fn new(key: &[u8; 32]) -> Keyed {
        // HMAC pads a key to the hash's block with zeros; padded here, `new` takes it without a length to check.
        let mut block = Zeroizing::new([0; 64]);
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        Keyed(Hmac::new((&*block).into()))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

fn derive(salt: Option<&[u8]>, ikm: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // Cannot fail: it is one hash long. If it did, a key of zeros stamps for nobody.
    let expanded = Hkdf::<Sha256>::new(salt, ikm).expand(info, &mut *key);
    debug_assert!(expanded.is_ok(), "32 bytes expand");
    key
}

fn head<const N: usize>(mac: &[u8; 32]) -> [u8; N] {
    mac.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
