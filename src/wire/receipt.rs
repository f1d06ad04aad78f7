//! The receipt: what a server answers a stamped knock with. WIRE.md "Receipt".
//!
//! ```text
//! magic "SLR1" (4) | nonce (12) | ciphertext | tag (16)                      ChaCha20-Poly1305, aad = magic
//! key       = HKDF-SHA256( ikm = user HMAC key, salt = the request's 32-byte hmac, info = "siglatch receipt 1" )
//! plaintext = version u8 = 1 | status u8 | knock id (8) | server time u32 | lease seconds u32 | source (16)
//!             | text length u16 | text (UTF-8, or a piece of a key)          big-endian
//! ```
//!
//! # Security considerations
//!
//! The request's hmac goes into the key, so a receipt opens for one knock only, and nobody who lacks the user's key can
//! make one. The nonce must be random and fresh for each plaintext.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::reader::{Reader, WrongLength};
use super::{HmacKey, KnockId, mac};

/// Longest text, in bytes.
pub const TEXT_MAX: usize = 220;

/// Longest receipt, in bytes: as long as the shortest stamped datagram.
pub const RECEIPT_MAX: usize = 4 + 12 + FIXED_LEN + TEXT_MAX + 16;

/// What a server says about one knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What became of it.
    pub status: Status,
    /// As the server's log has it.
    pub knock: KnockId,
    /// The server's clock, Unix seconds.
    pub server_time: u32,
    /// For how long a door is open; 0 where there is none.
    pub lease_seconds: u32,
    /// Where the knock came from, as the server saw it; `::ffff:` folded.
    pub source: IpAddr,
    /// For people, but for a piece of a key ([`server_key`](super::server_key)); beyond [`TEXT_MAX`] bytes it is cut, between two
    /// characters where it has any.
    pub text: Vec<u8>,
}

/// What became of a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It ran, and ended well.
    Done = 1,
    /// It could not be started, or did not end well.
    Failed = 2,
    /// Accepted, and still running.
    Running = 3,
    /// Too much runs already.
    Busy = 4,
    /// Over quota, within a cooldown, or out of hours.
    Quota = 5,
    /// Not permitted.
    Denied = 6,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 6] =
        [Status::Done, Status::Failed, Status::Running, Status::Busy, Status::Quota, Status::Denied];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Running => "running",
            Status::Busy => "busy",
            Status::Quota => "quota",
            Status::Denied => "denied",
        })
    }
}

/// Bytes that are no receipt for this knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no receipt for this knock")]
pub struct BadReceipt;

impl From<WrongLength> for BadReceipt {
    fn from(_: WrongLength) -> BadReceipt {
        BadReceipt
    }
}

impl Receipt {
    /// The datagram, at most [`RECEIPT_MAX`] bytes, for the knock with this hmac. `nonce` is random.
    pub fn seal(&self, key: &HmacKey, hmac: &[u8; 32], nonce: [u8; 12]) -> Vec<u8> {
        let mut plain = self.plaintext();
        // It can fail for gigabytes only.
        let tag =
            cipher(key, hmac).encrypt_inout_detached(&nonce.into(), &MAGIC, plain.as_mut_slice().into());
        let tag: [u8; 16] = tag.map(Into::into).unwrap_or_default();
        [&MAGIC[..], &nonce, &plain, &tag].concat()
    }

    /// Reads a receipt for the knock with this hmac.
    ///
    /// # Errors
    ///
    /// [`BadReceipt`] for whatever the server did not make for that knock, or a newer version of this did.
    pub fn open(datagram: &[u8], key: &HmacKey, hmac: &[u8; 32]) -> Result<Receipt, BadReceipt> {
        if datagram.len() > RECEIPT_MAX {
            return Err(BadReceipt);
        }
        let (sealed, tag) = datagram.split_last_chunk::<16>().ok_or(BadReceipt)?;
        let mut reader = Reader::new(sealed);
        if *reader.array()? != MAGIC {
            return Err(BadReceipt);
        }
        let nonce: [u8; 12] = *reader.array()?;
        let mut plain = reader.rest().to_vec();
        cipher(key, hmac)
            .decrypt_inout_detached(&nonce.into(), &MAGIC, plain.as_mut_slice().into(), &(*tag).into())
            .map_err(|_| BadReceipt)?;
        Receipt::parse(&plain)
    }

    /// What it says, for people.
    pub fn words(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    pub(crate) fn plaintext(&self) -> Vec<u8> {
        let text = fitting(&self.text);
        let mut plain = vec![VERSION, self.status as u8];
        plain.extend(self.knock.0);
        plain.extend(self.server_time.to_be_bytes());
        plain.extend(self.lease_seconds.to_be_bytes());
        plain.extend(mac::mapped(self.source));
        plain.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        plain.extend(text);
        plain
    }

    pub(crate) fn parse(plain: &[u8]) -> Result<Receipt, BadReceipt> {
        let mut reader = Reader::new(plain);
        if reader.u8()? != VERSION {
            return Err(BadReceipt);
        }
        let status = reader.u8()?;
        let status = Status::ALL.into_iter().find(|known| *known as u8 == status).ok_or(BadReceipt)?;
        let knock = KnockId(*reader.array()?);
        let server_time = u32::from_be_bytes(*reader.array()?);
        let lease_seconds = u32::from_be_bytes(*reader.array()?);
        let source = IpAddr::V6(Ipv6Addr::from_octets(*reader.array()?)).to_canonical();
        let len = usize::from(u16::from_be_bytes(*reader.array()?));
        let text = reader.bytes(len)?.to_vec();
        reader.end()?;
        Ok(Receipt { status, knock, server_time, lease_seconds, source, text })
    }
}

/// As much of `text` as fits into `max` bytes, cut between two characters.
pub fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

fn fitting(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => cut(text, TEXT_MAX).as_bytes(),
        Err(_) => text.get(..TEXT_MAX).unwrap_or(text),
    }
}

fn cipher(key: &HmacKey, hmac: &[u8; 32]) -> ChaCha20Poly1305 {
    let mut derived = Zeroizing::new([0; 32]);
    // Cannot fail: it is one hash long.
    let expanded = Hkdf::<Sha256>::new(Some(hmac), key.bytes()).expand(b"siglatch receipt 1", &mut *derived);
    debug_assert!(expanded.is_ok(), "32 bytes expand");
    ChaCha20Poly1305::new((&*derived).into())
}

const MAGIC: [u8; 4] = *b"SLR1";
const VERSION: u8 = 1;
/// Of the plaintext without its text.
const FIXED_LEN: usize = 1 + 1 + 8 + 4 + 4 + 16 + 2;

#[cfg(test)]
mod tests;
