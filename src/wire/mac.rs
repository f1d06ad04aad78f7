//! The packet's HMAC, and what a knock is bound to.
//!
//! ```text
//! signed = plain[0..12] || plain[44 .. 46 + payload_len] [ || "SLB1" || server_id (16) || addr (16) ]
//! hmac   = HMAC-SHA256( user key, SHA-256( signed ) )
//! ```
//!
//! # Security considerations
//!
//! A sealed packet can be made by anybody who has the public key, and one that was well padded must not be told
//! from one that was not by how long its MAC takes. [`verify`] therefore always computes three MACs over digests of
//! one and the same number of SHA-256 blocks, whatever the payload's length, and compares in constant time.

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{HmacKey, PAYLOAD_MAX, ServerId};

/// What the MAC covers of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `plain[0..12]`.
    pub head: &'a [u8; 12],
    /// `plain[44 .. 46 + payload_len]`.
    pub tail: &'a [u8],
}

/// What a knock is signed for, beyond its own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing: plain siglatch v1.
    None,
    /// One server, from any address.
    Server(ServerId),
    /// One server, from one address.
    Source(ServerId, IpAddr),
}

/// What a verified knock was bound to; ordered, the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Nothing: plain siglatch v1.
    None,
    /// This server.
    Server,
    /// This server and the address it came from.
    Source,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bound::None => "none",
            Bound::Server => "server",
            Bound::Source => "source",
        })
    }
}

/// The MAC that a client puts into its packet.
pub fn tag(key: &HmacKey, signed: &Signed<'_>, binding: Binding) -> [u8; 32] {
    let suffix = match binding {
        Binding::None => None,
        Binding::Server(server) => Some(Suffix { server, addr: ANY }),
        Binding::Source(server, addr) => Some(Suffix { server, addr: mapped(addr) }),
    };
    mac(key, &digest(signed, suffix))
}

/// Compares `hmac` with all three MACs that this server could accept from `source`.
///
/// `server` must be a random decoy where the server has no id. `None`: not authentic.
pub fn verify(
    key: &HmacKey,
    signed: &Signed<'_>,
    hmac: &[u8; 32],
    server: ServerId,
    source: IpAddr,
) -> Option<Bound> {
    let same = |suffix| mac(key, &digest(signed, suffix)).ct_eq(hmac);
    let none = same(None);
    let bound = same(Some(Suffix { server, addr: ANY }));
    let sourced = same(Some(Suffix { server, addr: mapped(source) }));
    if !bool::from(none | bound | sourced) {
        return None;
    }
    // Authentic: from here on the time taken tells nothing that the sender doesn't know.
    Some(match (bool::from(sourced), bool::from(bound)) {
        (true, _) => Bound::Source,
        (false, true) => Bound::Server,
        (false, false) => Bound::None,
    })
}

#[derive(Clone, Copy)]
struct Suffix {
    server: ServerId,
    addr: [u8; 16],
}

fn mac(key: &HmacKey, digest: &[u8; 32]) -> [u8; 32] {
    // HMAC pads a key to the hash's block with zeros; padded here, `new` takes it without a length to check.
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(digest);
    mac.finalize().into_bytes().into()
}

/// SHA-256 of what is signed, at the cost of the longest.
fn digest(signed: &Signed<'_>, suffix: Option<Suffix>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(signed.head);
    hash.update(signed.tail);
    let mut len = signed.head.len().saturating_add(signed.tail.len());
    if let Some(suffix) = suffix {
        hash.update(SUFFIX_MAGIC);
        hash.update(suffix.server.0);
        hash.update(suffix.addr);
        len = len.saturating_add(SUFFIX_LEN);
    }
    let digest = hash.finalize().into();
    let mut burn = Sha256::new();
    for _ in blocks(len)..blocks(LONGEST) {
        burn.update([0; 64]);
    }
    black_box(burn);
    digest
}

/// SHA-256 compressions for a message of `len` bytes: padding adds one byte and the length's eight.
const fn blocks(len: usize) -> usize {
    len.saturating_add(9).div_ceil(64)
}

/// IPv6, or v4-mapped.
pub(crate) fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

const ANY: [u8; 16] = Ipv6Addr::UNSPECIFIED.octets();
const SUFFIX_MAGIC: [u8; 4] = *b"SLB1";
const SUFFIX_LEN: usize = 4 + 16 + 16;
const LONGEST: usize = 12 + 2 + PAYLOAD_MAX + SUFFIX_LEN;

#[cfg(test)]
mod tests;
