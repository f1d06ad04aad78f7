use sha2::Digest as _;

use super::*;
use crate::wire::{ActionId, Knock, PLAINTEXT_LEN, Packet, UserId};

const SERVER: ServerId = ServerId([7; 16]);
const OTHER_SERVER: ServerId = ServerId([8; 16]);

fn key() -> HmacKey {
    HmacKey::new([9; 32]).unwrap()
}

fn plain(binding: Binding) -> [u8; PLAINTEXT_LEN] {
    let knock = Knock {
        timestamp: 1_795_219_667,
        user: UserId(1),
        action: ActionId::new(1).unwrap(),
        challenge: 5,
        payload: b"payload",
    };
    *knock.encode(&key(), binding).unwrap()
}

fn check(plain: &[u8], key: &HmacKey, server: ServerId, source: &str) -> Option<Bound> {
    let packet = Packet::decode(plain).ok()?;
    verify(key, &packet.signed, packet.hmac, server, ip(source))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn each_binding_is_recognised_as_exactly_that() {
    let source = "192.0.2.1";
    let cases = [
        (Binding::None, Bound::None),
        (Binding::Server(SERVER), Bound::Server),
        (Binding::Source(SERVER, ip(source)), Bound::Source),
    ];
    for (binding, bound) in cases {
        assert_eq!(check(&plain(binding), &key(), SERVER, source), Some(bound));
    }
}

#[test]
fn a_knock_bound_to_another_server_is_not_authentic() {
    for binding in [Binding::Server(OTHER_SERVER), Binding::Source(OTHER_SERVER, ip("192.0.2.1"))] {
        assert_eq!(check(&plain(binding), &key(), SERVER, "192.0.2.1"), None);
    }
}

#[test]
fn a_knock_bound_to_another_source_is_not_authentic() {
    let plain = plain(Binding::Source(SERVER, ip("192.0.2.1")));
    for thief in ["192.0.2.2", "2001:db8::1", "::", "0.0.0.0"] {
        assert_eq!(check(&plain, &key(), SERVER, thief), None, "{thief}");
    }
}

#[test]
fn an_ipv4_source_is_the_same_when_mapped() {
    let plain = plain(Binding::Source(SERVER, ip("::ffff:192.0.2.1")));
    assert_eq!(check(&plain, &key(), SERVER, "192.0.2.1"), Some(Bound::Source));
}

#[test]
fn a_plain_knock_of_any_server_is_authentic_and_says_so() {
    assert_eq!(check(&plain(Binding::None), &key(), OTHER_SERVER, "::1"), Some(Bound::None));
}

#[test]
fn another_key_is_not_authentic() {
    let other = HmacKey::new([10; 32]).unwrap();
    assert_eq!(check(&plain(Binding::None), &other, SERVER, "::1"), None);
}

#[test]
fn every_flipped_bit_of_what_is_signed_breaks_it() {
    let end = 46 + b"payload".len();
    let mut flipped = 0;
    for binding in [Binding::None, Binding::Server(SERVER), Binding::Source(SERVER, ip("::1"))] {
        for byte in 0..end {
            for bit in 0..8 {
                let mut plain = plain(binding);
                plain[byte] ^= 1 << bit;
                assert_eq!(check(&plain, &key(), SERVER, "::1"), None, "byte {byte}, bit {bit}");
                flipped += 1;
            }
        }
    }
    assert_eq!(flipped, 3 * 53 * 8);
}

#[test]
fn bytes_past_the_payload_are_not_signed() {
    for byte in 46 + b"payload".len()..PLAINTEXT_LEN {
        let mut plain = plain(Binding::Server(SERVER));
        plain[byte] = 0xff;
        assert_eq!(check(&plain, &key(), SERVER, "::1"), Some(Bound::Server), "byte {byte}");
    }
}

#[test]
fn a_payload_that_ends_like_a_suffix_is_no_binding() {
    // Unauthenticated padding must not be able to become a suffix: what looks like one lies inside the payload's
    // length, which is signed, and makes the knock a plain one.
    let suffix = [&SUFFIX_MAGIC[..], &SERVER.0, &ANY].concat();
    let knock = Knock {
        timestamp: 1,
        user: UserId(1),
        action: ActionId::new(1).unwrap(),
        challenge: 5,
        payload: &suffix,
    };
    let mut plain = *knock.encode(&key(), Binding::None).unwrap();
    assert_eq!(check(&plain, &key(), SERVER, "::1"), Some(Bound::None));
    plain[44] = 0;
    assert_eq!(check(&plain, &key(), SERVER, "::1"), None);
}

#[test]
fn a_digest_is_sha_256_of_what_is_covered_for_each_length() {
    let head = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let suffix = Suffix { server: SERVER, addr: [3; 16] };
    let mut compared = 0;
    for said in (0..=u16::try_from(PAYLOAD_MAX).unwrap()).chain([200, 255, 256, u16::MAX]) {
        let mut tail = [0xee; TAIL_LEN];
        tail[..2].copy_from_slice(&said.to_le_bytes());
        let covered = [&head[..], &tail[..2 + usize::from(said) % 200]].concat();
        let signed = Signed { head: &head, tail: &tail };
        assert_eq!(digest(&signed, None)[..], Sha256::digest(&covered)[..], "{said}");
        let bound = [&covered, &SUFFIX_MAGIC[..], &SERVER.0, &[3; 16]].concat();
        assert_eq!(digest(&signed, Some(suffix))[..], Sha256::digest(&bound)[..], "{said}, bound");
        compared += 2;
    }
    assert_eq!(compared, 2 * 204);
}
