//! A knock as a hostile client could make it: its fields chosen, then signed, then spoiled.

use std::net::{IpAddr, SocketAddr};

use super::menu;
use super::operands::Operands;
use super::recorded::recorded;
use crate::wire::mac::{self, Signed};
use crate::wire::stamp::{Stamper, stamp};
use crate::wire::{BeaconKey, Binding, HmacKey, PAYLOAD_MAX, PLAINTEXT_LEN, StampKey, UserId};

/// What is to be sent.
pub(super) struct Knock<'a> {
    pub(super) source: SocketAddr,
    user: u16,
    action: u8,
    key: u8,
    /// Seconds from now.
    offset: i16,
    challenge: u8,
    bind: u8,
    payload: &'a [u8],
    /// In front of the block's zero byte.
    padding: u8,
    spoil: Spoil,
}

/// What is wrong with it.
#[derive(Clone, Copy)]
enum Spoil {
    Nothing,
    /// This version, well signed.
    Version(u8),
    /// This payload length, well signed.
    Length(u16),
    /// These bits of a byte of the plaintext, changed after signing.
    Flip(u8, u8),
    /// This byte behind the payload, which nobody signs.
    Behind(u8),
    /// So many bytes are missing at the end of the message, in a good padding.
    Short(u8),
}

/// A knock, signed.
pub(super) struct Made {
    pub(super) key: HmacKey,
    pub(super) binding: Binding,
    pub(super) signed: [u8; PLAINTEXT_LEN],
    pub(super) datagram: Vec<u8>,
}

impl<'a> Knock<'a> {
    /// User, action, key, source, seconds from now (2, big-endian, signed), challenge, binding, padding, what is to be
    /// spoiled and how (2), the payload's length and the payload.
    pub(super) fn read(operands: &mut Operands<'a>) -> Option<Knock<'a>> {
        Some(Knock {
            user: operands.u8()?.into(),
            action: operands.u8()?,
            key: operands.u8()?,
            source: operands.source()?,
            offset: operands.u16()?.cast_signed(),
            challenge: operands.u8()?,
            bind: operands.u8()?,
            padding: operands.u8()?.max(1),
            spoil: match (operands.u8()? % 6, operands.u8()?, operands.u8()?) {
                (1, version, _) => Spoil::Version(version),
                (2, high, low) => Spoil::Length(u16::from_be_bytes([high, low])),
                (3, at, bits) => Spoil::Flip(at, bits),
                (4, byte, _) => Spoil::Behind(byte),
                (5, len, _) => Spoil::Short(len),
                (_, _, _) => Spoil::Nothing,
            },
            payload: {
                let len = operands.u8()?;
                operands.bytes(len)
            },
        })
    }

    /// By WIRE.md's table, byte for byte.
    pub(super) fn make(&self, now: u64) -> Made {
        let timestamp = i64::try_from(now).unwrap_or(0).saturating_add(self.offset.into());
        let timestamp = u32::try_from(timestamp).unwrap_or(0);
        let len = self.payload.len().min(PAYLOAD_MAX);
        let mut plain = [0; PLAINTEXT_LEN];
        plain[0] = 1;
        plain[1..5].copy_from_slice(&timestamp.to_le_bytes());
        plain[5..7].copy_from_slice(&self.user.to_le_bytes());
        plain[7] = self.action;
        plain[8] = self.challenge;
        plain[44..46].copy_from_slice(&u16::try_from(len).unwrap_or(0).to_le_bytes());
        plain[46..46 + len].copy_from_slice(&self.payload[..len]);
        match self.spoil {
            Spoil::Version(version) => plain[0] = version,
            Spoil::Length(len) => plain[44..46].copy_from_slice(&len.to_le_bytes()),
            Spoil::Nothing | Spoil::Flip(..) | Spoil::Behind(_) | Spoil::Short(_) => {}
        }
        let (key, binding) = (menu::key(self.key), self.binding());
        let end = 46 + usize::from(u16::from_le_bytes([plain[44], plain[45]])).min(PAYLOAD_MAX);
        let (head, tail) = (plain.first_chunk().expect("245 bytes"), plain.last_chunk().expect("245 bytes"));
        let signed = Signed { head, tail };
        let hmac = mac::tag(&key, &signed, binding);
        plain[12..44].copy_from_slice(&hmac);
        let signed = plain;
        let mut message = PLAINTEXT_LEN;
        match self.spoil {
            Spoil::Flip(at, bits) => plain[usize::from(at) % PLAINTEXT_LEN] ^= bits,
            Spoil::Behind(byte) => plain[end..].fill(byte),
            Spoil::Short(missing) => message -= usize::from(missing) % PLAINTEXT_LEN,
            Spoil::Nothing | Spoil::Version(_) | Spoil::Length(_) => {}
        }
        let mut datagram = vec![self.padding; MODULUS.len() - message];
        datagram[..2].copy_from_slice(&[0, 2]);
        if let Some(last) = datagram.last_mut() {
            *last = 0;
        }
        datagram.extend(&plain[..message]);
        Made { key, binding, signed, datagram }
    }

    fn binding(&self) -> Binding {
        let ip = |source: SocketAddr| source.ip().to_canonical();
        match self.bind % 6 {
            0 => Binding::None,
            1 => Binding::Server(menu::SERVER),
            2 => Binding::Server(menu::OTHER_SERVER),
            3 => Binding::Source(menu::SERVER, ip(self.source)),
            4 => Binding::Source(menu::SERVER, ip(menu::source(self.challenge))),
            _ => Binding::Source(menu::SERVER, IpAddr::from([0; 16])),
        }
    }
}

/// A stamp as a hostile client could make it.
pub(super) struct Stamp {
    pub(super) user: UserId,
    key: u8,
    /// Seconds from now.
    offset: i16,
    /// These bits of a byte of it, changed.
    flip: (u8, u8),
}

impl Stamp {
    /// User, key, seconds from now (2, big-endian, signed), where it is changed, bits.
    pub(super) fn read(operands: &mut Operands<'_>) -> Option<Stamp> {
        Some(Stamp {
            user: UserId(operands.u8()?.into()),
            key: operands.u8()?,
            offset: operands.u16()?.cast_signed(),
            flip: (operands.u8()?, operands.u8()?),
        })
    }

    pub(super) fn key(&self) -> HmacKey {
        menu::key(self.key)
    }

    /// The datagram, with nothing changed.
    pub(super) fn make(&self, sealed: Vec<u8>, now: u64) -> Vec<u8> {
        let timestamp = i64::try_from(now).unwrap_or(0).saturating_add(self.offset.into());
        let timestamp = u32::try_from(timestamp).unwrap_or(0);
        let (server, key) = (recorded().private_key.public(), self.key());
        let stamper = Stamper::new(&StampKey::derive(server, &key));
        stamp(sealed, self.user, timestamp, &BeaconKey::of(server), &stamper)
    }

    pub(super) fn spoil(&self, mut datagram: Vec<u8>) -> Vec<u8> {
        let (at, bits) = self.flip;
        datagram[MODULUS.len() + usize::from(at) % 32] ^= bits;
        datagram
    }
}

/// A block begins with 0, so all of them are below it.
pub(super) const MODULUS: [u8; 256] = [0xb0; 256];
