//! The KnockPacket, version 1: 245 bytes, packed, little-endian.
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 4 | timestamp, Unix seconds |
//! | 5 | 2 | user id |
//! | 7 | 1 | action id, 0 is reserved for replies |
//! | 8 | 4 | challenge |
//! | 12 | 32 | hmac |
//! | 44 | 2 | payload length, 0 to 199 |
//! | 46 | 199 | payload, zero padded; what lies past the length is ignored and not authenticated |

use subtle::{Choice, ConstantTimeEq, ConstantTimeGreater};
use zeroize::Zeroizing;

use super::mac::{self, Binding, Signed, TAIL_LEN};
use super::reader::{Reader, WrongLength};
use super::{ActionId, HmacKey, UserId};

/// The packet's size, sealed in one RSA block: 256 - 11 bytes.
pub const PLAINTEXT_LEN: usize = 245;

/// The longest payload, in bytes.
pub const PAYLOAD_MAX: usize = 199;

/// The only version there is.
const VERSION: u8 = 1;

/// A packet's fields as they stand there, before any of them is believed.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Unix seconds on the sender's clock.
    pub timestamp: u32,
    /// Whose key it claims to be signed with.
    pub user: UserId,
    /// The action's number; 0 is reserved for replies.
    pub action: u8,
    /// Random; with user and timestamp it is the nonce.
    pub challenge: u32,
    /// The MAC that came along.
    pub hmac: &'a [u8; 32],
    /// The payload, 0 to 199 bytes.
    pub payload: &'a [u8],
    /// What the MAC covers.
    pub signed: Signed<'a>,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not 245 bytes.
    #[error("not {PLAINTEXT_LEN} bytes")]
    Length,
    /// The version is not 1.
    #[error("version {0} instead of 1")]
    Version(u8),
    /// The payload is said to be longer than 199 bytes.
    #[error("payload length {0} above {PAYLOAD_MAX}")]
    PayloadLength(u16),
}

impl From<WrongLength> for Malformed {
    fn from(_: WrongLength) -> Malformed {
        Malformed::Length
    }
}

impl<'a> Packet<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for another length, another version or a payload length above 199.
    pub fn decode(plain: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        let Fields { packet, version, len } = Fields::read(plain)?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if usize::from(len) > PAYLOAD_MAX {
            return Err(Malformed::PayloadLength(len));
        }
        Ok(packet)
    }

    /// Reads the fields of what may be no packet, and says whether it is one, in a time that does not. A payload length
    /// above 199 is read as some other.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for another length than 245 bytes.
    pub fn read(plain: &'a [u8]) -> Result<(Packet<'a>, Choice), Malformed> {
        let Fields { packet, version, len } = Fields::read(plain)?;
        let good = version.ct_eq(&VERSION) & !u64::from(len).ct_gt(&(PAYLOAD_MAX as u64));
        Ok((packet, good))
    }
}

/// A packet, and what its other fields were read by.
struct Fields<'a> {
    packet: Packet<'a>,
    version: u8,
    /// As it stands there.
    len: u16,
}

impl<'a> Fields<'a> {
    fn read(plain: &'a [u8]) -> Result<Fields<'a>, WrongLength> {
        let mut reader = Reader::new(plain);
        let head = reader.array::<12>()?;
        let hmac = reader.array::<32>()?;
        let tail = reader.array::<TAIL_LEN>()?;
        reader.end()?;

        let mut head_reader = Reader::new(head);
        let version = head_reader.u8()?;
        let timestamp = u32::from_le_bytes(*head_reader.array()?);
        let user = UserId(u16::from_le_bytes(*head_reader.array()?));
        let action = head_reader.u8()?;
        let challenge = u32::from_le_bytes(*head_reader.array()?);

        let mut tail_reader = Reader::new(tail);
        let len = u16::from_le_bytes(*tail_reader.array()?);
        let payload = tail_reader.bytes(mac::payload_len(len))?;
        let signed = Signed { head, tail };
        let packet = Packet { timestamp, user, action, challenge, hmac, payload, signed };
        Ok(Fields { packet, version, len })
    }
}

/// A knock to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a> {
    /// Unix seconds.
    pub timestamp: u32,
    /// Whose key signs it.
    pub user: UserId,
    /// What is to run.
    pub action: ActionId,
    /// Fresh from the operating system's generator, for each knock.
    pub challenge: u32,
    /// At most 199 bytes.
    pub payload: &'a [u8],
}

/// A payload above 199 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload has {0} bytes, a knock holds {PAYLOAD_MAX}")]
pub struct PayloadTooLong(pub usize);

impl Knock<'_> {
    /// The 245 bytes, signed.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLong`]; nothing is ever cut.
    pub fn encode(
        &self,
        key: &HmacKey,
        binding: Binding,
    ) -> Result<Zeroizing<[u8; PLAINTEXT_LEN]>, PayloadTooLong> {
        if self.payload.len() > PAYLOAD_MAX {
            return Err(PayloadTooLong(self.payload.len()));
        }
        let Knock { timestamp, user, action, challenge, payload } = *self;
        Ok(sign(key, Head { timestamp, user, action: action.number(), challenge }, payload, binding))
    }
}

/// The fields in front of the MAC, version aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) timestamp: u32,
    pub(super) user: UserId,
    /// 0 for a reply.
    pub(super) action: u8,
    pub(super) challenge: u32,
}

/// The 245 bytes, signed. `payload` has at most 199.
pub(super) fn sign(
    key: &HmacKey,
    head: Head,
    payload: &[u8],
    binding: Binding,
) -> Zeroizing<[u8; PLAINTEXT_LEN]> {
    let head: [u8; 12] = filled(
        [VERSION]
            .into_iter()
            .chain(head.timestamp.to_le_bytes())
            .chain(head.user.0.to_le_bytes())
            .chain([head.action])
            .chain(head.challenge.to_le_bytes()),
    );
    debug_assert!(payload.len() <= PAYLOAD_MAX, "who calls has seen to it");
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let tail: [u8; TAIL_LEN] = filled(len.to_le_bytes().into_iter().chain(payload.iter().copied()));
    let hmac = mac::tag(key, &Signed { head: &head, tail: &tail }, binding);
    Zeroizing::new(filled(head.into_iter().chain(hmac).chain(tail)))
}

/// An array with these bytes in front and zeros behind.
fn filled<const N: usize>(bytes: impl Iterator<Item = u8>) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    array
}

#[cfg(test)]
mod tests;
