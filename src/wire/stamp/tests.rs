use proptest::prelude::*;

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

proptest! {
    #[test]
    fn the_window_holds_every_timestamp_that_is_fresh(now in 0..u64::from(u32::MAX), freshness in 1..=3600u64, off in -3600..=3600i64) {
        let window = Epoch::window(now, freshness);
        let timestamp = now.saturating_add_signed(off);
        let distance = now.abs_diff(timestamp);
        if distance <= freshness {
            prop_assert!(window.contains(&Epoch::of(timestamp)));
        }
        if distance > freshness + Epoch::SECONDS {
            prop_assert!(!window.contains(&Epoch::of(timestamp)));
        }
        if freshness == 300 && now > 300 {
            let epochs = window.end().0 - window.start().0 + 1;
            prop_assert!((10..=11).contains(&epochs), "{}", epochs);
        }
    }
}
