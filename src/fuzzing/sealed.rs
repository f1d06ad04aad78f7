//! Sealed datagrams, with the real key and the real openers.

use std::sync::OnceLock;
use std::time::Duration;

use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};

use super::menu;
use super::recorded::{SERVER, recorded};
use crate::channel::{SocketId, Takes};
use crate::clock::Now;
use crate::listener::opener::Opener;
use crate::listener::{Datagram, Step, Supply};
use crate::reason::DropReason;
use crate::wire::{PLAINTEXT_LEN, Packet, mac};

/// The first byte even: the rest is a datagram as it came; what is authentic in it is one that was recorded. Odd: the
/// rest is a block before the public-key operation, so that every padding can be made; what comes out of the openers is
/// what RFC 8017 says, or something that nobody signed.
pub fn sealed(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 2 == 0 {
        datagram(rest);
    } else {
        let mut padded = [0; MODULUS_LEN];
        padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        block(&padded);
    }
}

fn datagram(bytes: &[u8]) {
    let modulus = recorded().private_key.public().modulus();
    let source = ([192, 0, 2, 7], 7).into();
    let now = Now { mono: Duration::ZERO, boot: Duration::ZERO, wall: menu::START };
    let mut admission = menu::admission(now, modulus.clone(), &menu::configs()[0]);
    let takes = Takes::Plain;
    let step = admission.datagram(
        now,
        Supply::Ample,
        Datagram { source, local: [127, 0, 0, 1].into(), socket: SocketId(0), takes, bytes },
    );
    match step {
        Step::Drop(DropReason::Length) => assert_ne!(bytes.len(), MODULUS_LEN),
        Step::Drop(reason) => {
            assert_eq!(reason, DropReason::Range);
            assert!(BigUint::from_bytes_be(bytes) >= BigUint::from_bytes_be(&modulus));
        }
        Step::Open(sealed) => {
            assert_eq!(sealed.ciphertext(), bytes);
            for (name, opener) in openers() {
                let opened = opener.open(bytes);
                let recorded = recorded().datagrams.iter().any(|datagram| datagram == bytes);
                assert_eq!(is_authentic(&*opened), recorded, "{name}");
            }
        }
    }
}

fn block(block: &[u8; MODULUS_LEN]) {
    static KEY: OnceLock<RsaPublicKey> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let pem = recorded().private_key.public().to_pem().expect("a key that was read");
        RsaPublicKey::from_public_key_pem(&pem).expect("what was written")
    });
    let number = BigUint::from_bytes_be(block);
    if number >= *key.n() {
        return;
    }
    let sealed = number.modpow(key.e(), key.n()).to_bytes_be();
    let mut ciphertext = vec![0; MODULUS_LEN - sealed.len()];
    ciphertext.extend(sealed);
    for (name, opener) in openers() {
        let opened = opener.open(&ciphertext);
        match unpad(block) {
            Some(message) if message.len() == PLAINTEXT_LEN => assert_eq!(*message, *opened, "{name}"),
            Some(_) | None => {
                assert_ne!(block[11..], *opened, "{name}");
                assert!(!is_authentic(&*opened), "{name}");
            }
        }
    }
}

/// RFC 8017, 7.2.2: 0, 2, eight or more bytes that are not zero, 0, the message.
pub(super) fn unpad(block: &[u8]) -> Option<&[u8]> {
    let [0, 2, rest @ ..] = block else {
        return None;
    };
    let end = rest.iter().position(|byte| *byte == 0)?;
    (end >= 8).then(|| &rest[end + 1..])
}

fn is_authentic(plain: &[u8]) -> bool {
    let key = &recorded().hmac_key;
    Packet::decode(plain).is_ok_and(|packet| {
        mac::verify(key, &packet.signed, packet.hmac, SERVER, [192, 0, 2, 7].into()).is_some()
    })
}

fn openers() -> &'static [(&'static str, Opener)] {
    static OPENERS: OnceLock<Vec<(&'static str, Opener)>> = OnceLock::new();
    OPENERS.get_or_init(|| Opener::each(recorded().private_key.der()).expect("a key that was read"))
}

const MODULUS_LEN: usize = 256;
