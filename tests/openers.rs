//! Every opener takes exactly the well padded packets of the right length for good, and no two of them differ.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test stops at what it did not expect"
)]

use rsa::BigUint;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use siglatch::listener::opener::Opener;
use siglatch::wire::{PLAINTEXT_LEN, PrivateKey};

const MODULUS: usize = 256;
/// 00 02, eight bytes of padding, 00.
const MESSAGE_AT: usize = 11;

/// RFC 8017 (7.2.1): 00 02, padding without a zero, 00, the message.
fn padded() -> [u8; MODULUS] {
    let mut block = [0xa5; MODULUS];
    (block[0], block[1], block[MESSAGE_AT - 1]) = (0, 2, 0);
    block[MESSAGE_AT..].copy_from_slice(&message());
    block
}

/// Without a zero, so that a separator that is missed is not found later.
fn message() -> [u8; PLAINTEXT_LEN] {
    std::array::from_fn(|at| u8::try_from(at % 255 + 1).unwrap())
}

/// The public-key operation alone, on any block below the modulus.
fn sealed(key: &PrivateKey, block: &[u8]) -> Vec<u8> {
    let public = rsa::RsaPublicKey::from_public_key_pem(&key.public().to_pem().unwrap()).unwrap();
    let block = BigUint::from_bytes_be(block);
    assert!(block < *public.n());
    let bytes = block.modpow(public.e(), public.n()).to_bytes_be();
    [vec![0; MODULUS - bytes.len()], bytes].concat()
}

#[test]
fn a_packet_opens_only_if_every_byte_of_its_padding_is_right() {
    let key = PrivateKey::generate(&mut OsRng).unwrap();
    let openers = Opener::each(key.der()).unwrap();
    let opens = |block: &[u8; MODULUS]| {
        let ciphertext = sealed(&key, block);
        let opened = openers.iter().map(|(name, opener)| {
            let plaintext = opener.open(&ciphertext);
            assert_eq!(plaintext, opener.open(&ciphertext), "{name} says the same again");
            plaintext[..] == block[MESSAGE_AT..]
        });
        let opened: Vec<bool> = opened.collect();
        assert!(opened.iter().all(|good| *good == opened[0]), "{opened:?}: {block:02x?}");
        opened[0]
    };
    assert!(opens(&padded()));

    let mut wrong = 0;
    let mut refused = |what: &str, change: &dyn Fn(&mut [u8; MODULUS])| {
        let mut block = padded();
        change(&mut block);
        assert!(!opens(&block), "{what}");
        wrong += 1;
    };
    for kind in (0..=255).filter(|kind| *kind != 2) {
        refused("block type", &|block| block[1] = kind);
    }
    // Whatever is above it would not be below the modulus.
    for first in 1..=0x7f {
        refused("first byte", &|block| block[0] = first);
    }
    for at in 2..MESSAGE_AT - 1 {
        refused("a zero in the padding", &|block| block[at] = 0);
    }
    refused("no separator", &|block| block[MESSAGE_AT - 1] = 1);
    refused("nothing but zeros", &|block| block.fill(0));
    for at in MESSAGE_AT..MODULUS {
        refused("a shorter message", &|block| {
            block[MESSAGE_AT - 1] = 1;
            block[at] = 0;
        });
    }
    assert_eq!(wrong, 255 + 127 + 8 + 2 + PLAINTEXT_LEN);

    let mut message_of_zeros = padded();
    message_of_zeros[MESSAGE_AT..].fill(0);
    assert!(opens(&message_of_zeros), "a message may hold zeros");
    let mut other_padding = padded();
    other_padding[2..MESSAGE_AT - 1].copy_from_slice(&[1, 2, 0xff, 0x80, 1, 1, 1, 0xff]);
    assert!(opens(&other_padding), "padding is anything but zero");
}
