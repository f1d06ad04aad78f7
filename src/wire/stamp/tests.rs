#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rsa::rand_core::OsRng;

use super::*;
use crate::wire::PrivateKey;

const USER: UserId = UserId(513);

fn vectors(file: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn keys() -> (BeaconKey, StampKey) {
    let recorded = vectors("siglatch-v1.json");
    let server = PrivateKey::from_pem(recorded["private_key_pem"].as_str().unwrap()).unwrap();
    let user = HmacKey::parse(recorded["hmac_key_hex"].as_str().unwrap().as_bytes()).unwrap();
    (BeaconKey::of(server.public()), StampKey::derive(server.public(), &user))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sealed() -> Vec<u8> {
    (0..256u32).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn a_stamp_is_what_others_compute_from_the_same_keys() {
    let (beacon, key) = keys();
    let expected = vectors("stamp.json");
    let timestamp = expected["timestamp"].as_u64().unwrap().try_into().unwrap();
    let datagram = stamp(sealed(), USER, timestamp, &beacon, &Stamper::new(&key));
    assert_eq!(datagram.len(), 256 + STAMP_LEN);
    let stamped = Stamped::split(&datagram, 256).unwrap();
    assert_eq!(stamped.sealed, sealed());
    assert_eq!(hex(key.bytes()), expected["stamp_key_hex"].as_str().unwrap());
    assert_eq!(hex(&stamped.beacon), expected["beacon_hex"].as_str().unwrap());
    assert_eq!(hex(&stamped.hint), expected["hint_hex"].as_str().unwrap());
    assert_eq!(hex(stamped.tag), expected["tag_hex"].as_str().unwrap());
}

#[test]
fn a_stamp_with_any_bit_changed_verifies_for_nobody() {
    let (beacon, key) = keys();
    let stamper = Stamper::new(&key);
    let good = stamp(sealed(), USER, 1_700_000_000, &beacon, &stamper);
    assert!(stamper.verifies(&Stamped::split(&good, 256).unwrap()));
    for bit in 0..good.len() * 8 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!stamper.verifies(&Stamped::split(&changed, 256).unwrap()), "bit {bit}");
    }
    let other = Stamper::new(&StampKey::from_bytes([1; 32]));
    assert!(!other.verifies(&Stamped::split(&good, 256).unwrap()));
}

#[test]
fn only_the_exact_length_is_taken_apart() {
    for modulus_len in [256, 512] {
        for len in 0..700 {
            let split = Stamped::split(&[7; 700][..len], modulus_len);
            assert_eq!(split.is_some(), len == modulus_len + STAMP_LEN, "{len}");
        }
    }
}

#[test]
fn a_stamp_key_is_never_printed() {
    let (_, key) = keys();
    assert_eq!(format!("{key:?} {:?}", Stamper::new(&key)), "StampKey(****) Stamper(****)");
}

#[test]
fn a_stamp_key_is_of_one_user_at_one_server() {
    let servers = [(); 2].map(|()| PrivateKey::generate(&mut OsRng).unwrap().public().clone());
    let users = [1, 2].map(|byte| HmacKey::new([byte; 32]).unwrap());
    let keys = [(0, 0), (0, 1), (1, 0)].map(|(at, of)| StampKey::derive(&servers[at], &users[of]));
    assert_eq!(keys[0], StampKey::from_bytes(*keys[0].bytes()));
    assert!(keys[0] != keys[1] && keys[0] != keys[2]);
    let beacons = servers.map(|server| BeaconKey::of(&server).beacon(Epoch(1)));
    assert_ne!(beacons[0], beacons[1]);
}

#[test]
fn beacon_and_hint_change_with_the_epoch_and_the_hint_with_the_user() {
    let (beacon, key) = keys();
    let stamper = Stamper::new(&key);
    let (last, next) = (Epoch::of(1_700_000_063), Epoch::of(1_700_000_064));
    assert_eq!(Epoch::of(1_700_000_000), last, "an epoch begins with a multiple of 64");
    assert_eq!(last.0 + 1, next.0);
    assert_ne!(beacon.beacon(last), beacon.beacon(next));
    assert_ne!(stamper.hint(USER, last), stamper.hint(USER, next));
    assert_ne!(stamper.hint(USER, last), stamper.hint(UserId(1), last));
}

#[test]
fn five_minutes_are_ten_epochs_or_eleven() {
    let count = |now| {
        let window = Epoch::window(now, 300);
        1 + window.end().0 - window.start().0
    };
    let counts: BTreeSet<u64> = (1_700_000_000..1_700_000_064).map(count).collect();
    assert_eq!(counts, BTreeSet::from([10, 11]));
}

proptest! {
    #[test]
    fn the_window_is_the_epochs_of_the_timestamps_that_are_fresh(now in 0..=u64::from(u32::MAX), freshness in 1..=3600u64) {
        let window = Epoch::window(now, freshness);
        for fresh in [now.saturating_sub(freshness), now, now.saturating_add(freshness)] {
            prop_assert!(window.contains(&Epoch::of(fresh)));
        }
        if let Some(stale) = now.checked_sub(freshness + Epoch::SECONDS) {
            prop_assert!(!window.contains(&Epoch::of(stale)));
        }
        prop_assert!(!window.contains(&Epoch::of(now + freshness + Epoch::SECONDS)));
    }

    #[test]
    fn a_stamp_moved_to_other_bytes_verifies_for_nobody(
        sealed in prop::collection::vec(any::<u8>(), 256),
        other in prop::collection::vec(any::<u8>(), 256),
        timestamp: u32,
        user: u16,
    ) {
        prop_assume!(sealed != other);
        let (beacon, key) = (BeaconKey(Keyed::new(&[1; 32])), Stamper::new(&StampKey::from_bytes([2; 32])));
        let good = stamp(sealed, UserId(user), timestamp, &beacon, &key);
        let stamped = Stamped::split(&good, 256).unwrap();
        prop_assert!(key.verifies(&stamped));
        prop_assert_eq!(stamped.beacon, beacon.beacon(Epoch::of(timestamp.into())));
        let moved = [&other, &good[256..]].concat();
        prop_assert!(!key.verifies(&Stamped::split(&moved, 256).unwrap()));
    }
}
