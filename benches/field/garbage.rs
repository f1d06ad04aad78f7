//! What a flood is made of.

use rsa::rand_core::{OsRng, RngCore as _};

/// A kind of garbage. All but `Replayed` are another datagram each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Random bytes, 16 to 527 of them.
    Random,
    /// 256 random bytes, below every modulus: what a plain knock looks like.
    RightLength,
    /// 288 such bytes: what a stamped knock looks like.
    StampedLooking,
    /// The same with the beacon of a knock that was seen.
    CopiedBeacon,
    /// Knocks that were seen, again and again.
    Replayed,
    /// 225 characters: what fwknop's packets look like.
    Base64,
    /// All of these in turn.
    Mixed,
}

impl Kind {
    /// Each kind alone.
    pub(crate) const EACH: [Kind; 6] = [
        Kind::Random,
        Kind::RightLength,
        Kind::StampedLooking,
        Kind::CopiedBeacon,
        Kind::Replayed,
        Kind::Base64,
    ];

    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Random => "random",
            Kind::RightLength => "right length",
            Kind::StampedLooking => "stamped-looking",
            Kind::CopiedBeacon => "copied beacon",
            Kind::Replayed => "replayed",
            Kind::Base64 => "base64",
            Kind::Mixed => "mixed",
        }
    }
}

/// What a flooder saw of the contender's knocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whole knocks.
    pub(crate) knocks: Vec<Vec<u8>>,
    /// The beacon of stamped ones.
    pub(crate) beacon: Option<[u8; 8]>,
}

/// Datagrams to be sent in turn.
pub(crate) struct Garbage {
    pool: Vec<Vec<u8>>,
    again: Vec<Again>,
    next: usize,
    sent: u64,
}

/// What is done with a datagram before it is sent again.
#[derive(Clone, Copy, Debug)]
enum Again {
    Same,
    Changed,
}

impl Garbage {
    /// Enough of a kind to be no pattern.
    pub(crate) fn new(kind: Kind, seen: &Seen) -> Garbage {
        let (pool, again) = (0..POOL)
            .map(|at| {
                one(if kind == Kind::Mixed { Kind::EACH[at % Kind::EACH.len()] } else { kind }, seen, at)
            })
            .unzip();
        Garbage { pool, again, next: 0, sent: 0 }
    }

    /// The next `count`.
    pub(crate) fn batch(&mut self, count: usize) -> &[Vec<u8>] {
        if self.next + count > self.pool.len() {
            self.next = 0;
        }
        let range = self.next..self.next + count;
        self.next = range.end;
        for (datagram, again) in self.pool[range.clone()].iter_mut().zip(&self.again[range.clone()]) {
            self.sent += 1;
            match again {
                Again::Same => {}
                Again::Changed => change(datagram, self.sent),
            }
        }
        &self.pool[range]
    }
}

/// Half way, so that neither a length nor a first word nor a beacon changes. Letters, so that base64 stays base64.
fn change(datagram: &mut [u8], number: u64) {
    let start = datagram.len() / 2 - 8;
    for (at, byte) in datagram[start..start + 16].iter_mut().enumerate() {
        *byte = b'A' + (number >> (4 * at) & 15) as u8;
    }
}

fn one(kind: Kind, seen: &Seen, at: usize) -> (Vec<u8>, Again) {
    let datagram = match kind {
        Kind::Random => {
            let length = 16 + OsRng.next_u32() as usize % 512;
            random(length)
        }
        Kind::RightLength => below_modulus(256),
        Kind::StampedLooking => below_modulus(288),
        Kind::CopiedBeacon => {
            let mut datagram = below_modulus(288);
            if let Some(beacon) = seen.beacon {
                datagram[256..264].copy_from_slice(&beacon);
            }
            datagram
        }
        Kind::Base64 => {
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            random(225).into_iter().map(|byte| alphabet[usize::from(byte) % 64]).collect()
        }
        Kind::Replayed if !seen.knocks.is_empty() => {
            return (seen.knocks[at % seen.knocks.len()].clone(), Again::Same);
        }
        Kind::Replayed | Kind::Mixed => random(225),
    };
    (datagram, Again::Changed)
}

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

fn below_modulus(length: usize) -> Vec<u8> {
    let mut bytes = random(length);
    bytes[0] &= 0x7f;
    bytes
}

/// A multiple of the number of kinds.
const POOL: usize = 6 * 512;
