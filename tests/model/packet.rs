//! A packet made by the letter of the wire's description, with no code of the wire's.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::rules::{PAYLOADS, SOURCES};

/// What a sender puts into a packet, and what happens to it on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) timestamp: u32,
    pub(crate) user: u16,
    pub(crate) action: u8,
    pub(crate) challenge: u32,
    /// Of [`PAYLOADS`].
    pub(crate) payload: usize,
    /// 32 times this byte.
    pub(crate) key: u8,
    pub(crate) signed_for: SignedFor,
    pub(crate) flip: Option<Flip>,
    /// The user whose stamp is on it.
    pub(crate) stamp: Option<u16>,
}

/// What is signed beyond the packet's own bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SignedFor {
    Nothing,
    /// The server with this byte in its id.
    Server(u8),
    /// And one of [`SOURCES`].
    Source(u8, usize),
}

/// One bit is another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flip {
    pub(crate) byte: usize,
    pub(crate) bit: u8,
}

impl Sent {
    pub(crate) fn nonce(&self) -> (u16, u32, u32) {
        (self.user, self.timestamp, self.challenge)
    }

    /// Whether what the HMAC covers, or the HMAC, is not what the sender wrote.
    pub(crate) fn is_spoiled(&self) -> bool {
        let end = 46 + PAYLOADS[self.payload].bytes.len();
        self.flip.is_some_and(|flip| flip.byte < end)
    }

    pub(crate) fn bytes(&self) -> [u8; 245] {
        let payload = PAYLOADS[self.payload].bytes;
        let mut plain = [0; 245];
        plain[0] = 1;
        plain[1..5].copy_from_slice(&self.timestamp.to_le_bytes());
        plain[5..7].copy_from_slice(&self.user.to_le_bytes());
        plain[7] = self.action;
        plain[8..12].copy_from_slice(&self.challenge.to_le_bytes());
        plain[44..46].copy_from_slice(&(payload.len() as u16).to_le_bytes());
        plain[46..46 + payload.len()].copy_from_slice(payload);
        let mut signed = [&plain[..12], &plain[44..46 + payload.len()]].concat();
        match self.signed_for {
            SignedFor::Nothing => {}
            SignedFor::Server(id) => signed.extend([b"SLB1", &[id; 16][..], &[0; 16]].concat()),
            SignedFor::Source(id, source) => {
                let address = match SOURCES[source].parse::<IpAddr>().unwrap() {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                signed.extend([b"SLB1", &[id; 16][..], &address.octets()].concat());
            }
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&[self.key; 32]).unwrap();
        mac.update(&Sha256::digest(&signed));
        plain[12..44].copy_from_slice(&mac.finalize().into_bytes());
        if let Some(Flip { byte, bit }) = self.flip {
            plain[byte] ^= 1 << bit;
        }
        plain
    }
}

/// A knock with a timestamp off the clock of now by so many seconds, and where it comes from; most are well made.
pub(crate) fn knock() -> impl Strategy<Value = (i64, Sent, usize)> {
    let offset = prop_oneof![
        6 => -20_i64..20,
        2 => -320_i64..320,
        1 => prop::sample::select(vec![-301, -300, 300, 301, -21, -20, 20, 21]),
    ];
    let who = (
        prop_oneof![5 => Just(1_u16), 2 => 1_u16..4],
        prop_oneof![20 => 1_u8..4, 1 => Just(0)],
        0_u32..6,
        0..PAYLOADS.len(),
    );
    let key = prop_oneof![19 => Just(None), 1 => (1_u8..5).prop_map(Some)];
    let server = prop_oneof![15 => Just(7_u8), 1 => Just(8)];
    let bound_elsewhere = prop::option::weighted(0.1, 0..SOURCES.len());
    let flip = prop_oneof![
        12 => Just(None),
        1 => (0_usize..245, 0_u8..8).prop_map(|(byte, bit)| Some(Flip { byte, bit })),
    ];
    let stamp = prop_oneof![3 => Just(None), 3 => Just(Some(0)), 1 => (1_u16..4).prop_map(Some)];
    let signed = (key, 0..3, server, bound_elsewhere, flip, stamp);
    (offset, who, signed, 0..SOURCES.len()).prop_map(|(offset, who, signed, source)| {
        let (user, action, challenge, payload) = who;
        let (key, binding, server, elsewhere, flip, stamp) = signed;
        let sent = Sent {
            timestamp: 0,
            user,
            action,
            challenge,
            payload,
            // As a rule, user 1 has key 1.
            key: key.unwrap_or(user as u8),
            signed_for: match binding {
                0 => SignedFor::Nothing,
                1 => SignedFor::Server(server),
                _ => SignedFor::Source(server, elsewhere.unwrap_or(source)),
            },
            flip,
            // As a rule, the sender's own.
            stamp: stamp.map(|other| if other == 0 { user } else { other }),
        };
        (offset, sent, source)
    })
}
