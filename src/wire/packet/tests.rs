use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::wire::{Bound, ServerId};

const SERVER: ServerId = ServerId([7; 16]);
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn key() -> HmacKey {
    HmacKey::new([9; 32]).unwrap()
}

fn knock(payload: &[u8]) -> Knock<'_> {
    Knock {
        timestamp: 1_795_219_667,
        user: UserId(0x0102),
        action: ActionId::new(3).unwrap(),
        challenge: 0x0405_0607,
        payload,
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        timestamp: u32,
        user: u16,
        action in 1_u8..,
        challenge: u32,
        payload in proptest::collection::vec(any::<u8>(), 0..=PAYLOAD_MAX),
    ) {
        let knock = Knock {
            timestamp,
            user: UserId(user),
            action: ActionId::new(action).unwrap(),
            challenge,
            payload: &payload,
        };
        let plain = knock.encode(&key(), Binding::Server(SERVER)).unwrap();
        let packet = Packet::decode(&plain[..]).unwrap();
        prop_assert_eq!(
            (packet.timestamp, packet.user, packet.action, packet.challenge, packet.payload),
            (timestamp, UserId(user), action, challenge, &payload[..])
        );
        let bound = mac::verify(&key(), &packet.signed, packet.hmac, SERVER, SOURCE);
        prop_assert_eq!(bound, Some(Bound::Server));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(packet) = Packet::decode(&bytes) {
            prop_assert_eq!((bytes.len(), bytes[0]), (PLAINTEXT_LEN, 1));
            prop_assert!(packet.payload.len() <= PAYLOAD_MAX);
        }
    }
}

#[test]
fn the_fields_stand_where_the_clients_put_them() {
    let plain = knock(b"hi").encode(&key(), Binding::None).unwrap();
    let head = [1, 0xd3, 0xe0, 0, 0x6b, 2, 1, 3, 7, 6, 5, 4];
    assert_eq!(plain[..12], head);
    assert_eq!(plain[44..48], *b"\x02\0hi");
    assert!(plain[48..].iter().all(|byte| *byte == 0), "zero padded");
}

#[test]
fn every_other_length_is_refused() {
    let plain = knock(b"").encode(&key(), Binding::None).unwrap();
    for len in 0..PLAINTEXT_LEN {
        assert_eq!(Packet::decode(&plain[..len]).unwrap_err(), Malformed::Length);
    }
    let longer = [&plain[..], &[0]].concat();
    assert_eq!(Packet::decode(&longer).unwrap_err(), Malformed::Length);
}

#[test]
fn every_other_version_is_refused() {
    let mut plain = knock(b"").encode(&key(), Binding::None).unwrap();
    for version in (0..=u8::MAX).filter(|version| *version != 1) {
        plain[0] = version;
        assert_eq!(Packet::decode(&plain[..]).unwrap_err(), Malformed::Version(version));
    }
}

#[test]
fn a_payload_length_above_199_is_refused() {
    let mut plain = knock(&[b'x'; PAYLOAD_MAX]).encode(&key(), Binding::None).unwrap();
    assert_eq!(Packet::decode(&plain[..]).unwrap().payload, [b'x'; PAYLOAD_MAX]);
    for len in [200, 201, 245, 0x00ff, 0xff00, u16::MAX] {
        plain[44..46].copy_from_slice(&len.to_le_bytes());
        assert_eq!(Packet::decode(&plain[..]).unwrap_err(), Malformed::PayloadLength(len));
    }
}

#[test]
fn a_payload_that_does_not_fit_is_never_cut() {
    for len in [200, 255, 70_000] {
        let payload = vec![b'x'; len];
        let error = knock(&payload).encode(&key(), Binding::None).unwrap_err();
        assert_eq!(error, PayloadTooLong(len));
    }
}
