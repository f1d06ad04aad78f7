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
//! from one that was not by how long its MAC takes. [`verify`] therefore always computes three MACs over digests that
//! take the same instructions, whatever the payload's length, and compares in constant time.

use std::net::{IpAddr, Ipv6Addr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sha2::block_api::compress256;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::{HmacKey, PAYLOAD_MAX, ServerId};

/// What the MAC covers of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `plain[0..12]`.
    pub head: &'a [u8; 12],
    /// `plain[44..]`, covered up to the end of the payload: its length stands in front.
    pub tail: &'a [u8; TAIL_LEN],
}

impl Signed<'_> {
    /// How many bytes are covered: 14 to 213.
    fn len(&self) -> usize {
        let [low, high, ..] = *self.tail;
        self.head.len().saturating_add(2).saturating_add(payload_len(u16::from_le_bytes([low, high])))
    }
}

/// As it stands in the packet, if it is at most 199. What no user sealed says anything, mostly more, and is taken for as
/// many different lengths as packets have.
pub(super) fn payload_len(said: u16) -> usize {
    usize::from(said) % (PAYLOAD_MAX + 1)
}

/// Of the payload's length and the payload.
pub const TAIL_LEN: usize = 2 + PAYLOAD_MAX;

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

impl Bound {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Bound::None => "none",
            Bound::Server => "server",
            Bound::Source => "source",
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
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

/// HMAC-SHA256.
pub(crate) fn mac(key: &HmacKey, message: &[u8]) -> [u8; 32] {
    // HMAC pads a key to the hash's block with zeros; padded here, `new` takes it without a length to check.
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// SHA-256 of what is signed. Every copy has a fixed size, and every block is hashed: neither branches nor instructions
/// tell how long the payload is.
fn digest(signed: &Signed<'_>, suffix: Option<Suffix>) -> [u8; 32] {
    let mut message = [0; BLOCKS * 64 + ENDING_LEN];
    put(&mut message, 0, signed.head);
    put(&mut message, signed.head.len(), signed.tail);

    let (ending, suffix_len) = ending(suffix);
    let len = signed.len().saturating_add(suffix_len);
    put(&mut message, signed.len(), &ending);
    let last = blocks(len);
    put(
        &mut message,
        last.saturating_mul(64).saturating_sub(8),
        &(len as u64).saturating_mul(8).to_be_bytes(),
    );

    let (mut state, mut digest) = (SHA256_START, [0; 8]);
    let (blocks, _) = message.as_chunks::<64>();
    for (number, block) in (1_u64..).zip(blocks).take(BLOCKS) {
        compress256(&mut state, std::slice::from_ref(block));
        let is_last = number.ct_eq(&(last as u64));
        digest
            .iter_mut()
            .zip(&state)
            .for_each(|(to, from): (&mut u32, _)| to.conditional_assign(from, is_last));
    }
    let mut bytes = [0; 32];
    bytes.as_chunks_mut::<4>().0.iter_mut().zip(digest).for_each(|(to, word)| *to = word.to_be_bytes());
    bytes
}

/// What follows the covered bytes: the suffix, SHA-256's one bit, and zeros over whatever lay past the payload.
fn ending(suffix: Option<Suffix>) -> ([u8; ENDING_LEN], usize) {
    let mut ending = [0; ENDING_LEN];
    let mut len = 0;
    if let Some(Suffix { server, addr }) = suffix {
        put(&mut ending, 0, &SUFFIX_MAGIC);
        put(&mut ending, SUFFIX_MAGIC.len(), &server.0);
        put(&mut ending, SUFFIX_MAGIC.len().saturating_add(server.0.len()), &addr);
        len = SUFFIX_LEN;
    }
    put(&mut ending, len, &[0x80]);
    (ending, len)
}

/// Copies all of `bytes` to this place; there is always room.
fn put<const N: usize>(message: &mut [u8], at: usize, bytes: &[u8; N]) {
    if let Some(room) = message.get_mut(at..).and_then(|room| room.first_chunk_mut()) {
        *room = *bytes;
    }
}

/// SHA-256 blocks of a message of `len` bytes: padding adds one byte and the length's eight.
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
/// Of the longest payload with a suffix.
const BLOCKS: usize = blocks(12 + TAIL_LEN + SUFFIX_LEN);
/// The suffix, the bit, and as many zeros as there can be bytes past the payload.
const ENDING_LEN: usize = SUFFIX_LEN + 1 + TAIL_LEN;
/// FIPS 180-4, 5.3.3.
const SHA256_START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

#[cfg(test)]
mod tests;
