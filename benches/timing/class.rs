//! What can be wrong with a sealed packet, and packets with which it is.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPublicKey};
use siglatch::wire::{ActionId, Binding, Knock, PLAINTEXT_LEN, PublicKey, UserId};

use crate::common;

pub(crate) const MODULUS: usize = 256;
pub(crate) type Block = [u8; MODULUS];

/// What is wrong; everything else about it is right, and random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A zero among the first eight bytes of padding.
    BadPadding,
    /// Another beginning than 00 02.
    BadHeader,
    /// Padding to the end.
    NoZero,
    /// Well padded, but not 245 bytes.
    WrongLength,
    /// The packet's first byte.
    WrongVersion,
    /// All of the HMAC.
    WrongHmac,
    /// Signed well, by nobody who is known.
    UnknownUser,
    /// The HMAC's last byte.
    LateHmac,
    /// As [`Class::WrongHmac`], and a microsecond late.
    Planted,
}

impl Class {
    /// The planted one is the last.
    pub(crate) const ALL: [Class; 9] = [
        Class::BadPadding,
        Class::BadHeader,
        Class::NoZero,
        Class::WrongLength,
        Class::WrongVersion,
        Class::WrongHmac,
        Class::UnknownUser,
        Class::LateHmac,
        Class::Planted,
    ];

    /// The leak that must be found.
    pub(crate) fn plant(self) {
        let start = Instant::now();
        while self == Class::Planted && start.elapsed() < PLANTED {}
    }
}

/// Makes packets for a server.
pub(crate) struct Maker {
    key: RsaPublicKey,
    modulus: Vec<u8>,
    users: u16,
}

impl Maker {
    pub(crate) fn new(key: &PublicKey, users: u16) -> Maker {
        let modulus = key.modulus();
        Maker { key: RsaPublicKey::from_public_key_pem(&key.to_pem().unwrap()).unwrap(), modulus, users }
    }

    /// The public-key operation on a block of this class.
    pub(crate) fn sealed(&self, class: Class, random: &mut impl Rng) -> Block {
        let block = BigUint::from_bytes_be(&self.block(class, random));
        let sealed = block.modpow(self.key.e(), self.key.n()).to_bytes_be();
        let mut ciphertext = [0; MODULUS];
        ciphertext[MODULUS - sealed.len()..].copy_from_slice(&sealed);
        ciphertext
    }

    /// RFC 8017 (7.2.1): 00 02, padding without a zero, 00, the message.
    fn block(&self, class: Class, random: &mut impl Rng) -> Block {
        let mut block = std::array::from_fn(|_| random.random_range(1..=255));
        (block[0], block[1]) = (0, 2);
        match class {
            Class::BadPadding => block[random.random_range(2..10)] = 0,
            Class::BadHeader => {
                block[MESSAGE_AT - 1] = 0;
                while block[..2] == [0, 2] || block[..] >= self.modulus[..] {
                    random.fill_bytes(&mut block[..2]);
                }
            }
            Class::NoZero => {}
            Class::WrongLength => block[random.random_range(MESSAGE_AT..MODULUS)] = 0,
            Class::WrongVersion
            | Class::WrongHmac
            | Class::UnknownUser
            | Class::LateHmac
            | Class::Planted => {
                block[MESSAGE_AT - 1] = 0;
                block[MESSAGE_AT..].copy_from_slice(&self.packet(class, random));
            }
        }
        block
    }

    fn packet(&self, class: Class, random: &mut impl Rng) -> [u8; PLAINTEXT_LEN] {
        let mut payload = [0; 199];
        random.fill_bytes(&mut payload);
        let user = random.random_range(1..=self.users);
        let knock = Knock {
            timestamp: random.random(),
            user: UserId(if class == Class::UnknownUser {
                random.random_range(self.users + 1..=u16::MAX)
            } else {
                user
            }),
            action: ActionId::new(1).unwrap(),
            challenge: random.random(),
            payload: &payload[..random.random_range(0..=payload.len())],
        };
        let mut plain = *knock.encode(&common::key(user), Binding::None).unwrap();
        match class {
            Class::WrongVersion => plain[0] = random.random_range(2..=255),
            Class::WrongHmac | Class::Planted => random.fill_bytes(&mut plain[12..44]),
            Class::LateHmac => plain[43] ^= random.random_range(1..=255_u8),
            Class::UnknownUser
            | Class::BadPadding
            | Class::BadHeader
            | Class::NoZero
            | Class::WrongLength => {}
        }
        plain
    }
}

const MESSAGE_AT: usize = MODULUS - PLAINTEXT_LEN;
const PLANTED: Duration = Duration::from_micros(1);
