//! What real siglatch v1 clients sent decrypts, decodes and verifies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};
use siglatch::wire::{Bound, HmacKey, Packet, PrivateKey, ServerId, UserId, mac};

#[test]
fn each_recorded_datagram_is_understood() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/siglatch-v1.json")).unwrap();
    let pem = vectors["private_key_pem"].as_str().unwrap();
    let private = RsaPrivateKey::from_pkcs8_pem(pem).unwrap();
    let public = PrivateKey::from_pem(pem).unwrap().public().to_pem().unwrap();
    assert_eq!(public.trim(), vectors["public_key_pem"].as_str().unwrap().trim());
    let key = HmacKey::parse(vectors["hmac_key_hex"].as_str().unwrap().as_bytes()).unwrap();

    let datagrams = vectors["datagrams"].as_array().unwrap();
    for datagram in datagrams {
        let text = |key: &str| datagram[key].as_str().unwrap();
        let number = |key: &str| datagram[key].as_u64().unwrap();
        let (name, sealed) = (text("name"), unhex(text("datagram_hex")));
        assert_eq!(sealed.len(), 256, "{name}");

        let plain = private.decrypt(Pkcs1v15Encrypt, &sealed).unwrap();
        assert_eq!(plain, unhex(text("decrypted_hex")), "{name}");
        let packet = Packet::decode(&plain).unwrap();
        assert_eq!(u64::from(packet.timestamp), number("timestamp"), "{name}");
        assert_eq!(u64::from(packet.challenge), number("challenge"), "{name}");
        assert_eq!(u64::from(packet.action), number("action_id"), "{name}");
        let UserId(user) = packet.user;
        assert_eq!(u64::from(user), number("user_id"), "{name}");
        assert_eq!(packet.payload, unhex(text("payload_hex")), "{name}");
        assert_eq!(packet.hmac[..], unhex(text("hmac_hex")), "{name}");

        let source = "127.0.0.1".parse().unwrap();
        let bound = mac::verify(&key, &packet.signed, packet.hmac, ServerId([1; 16]), source);
        assert_eq!(bound, Some(Bound::None), "{name}");
    }
    assert_eq!(datagrams.len(), 8);
}

fn unhex(digits: &str) -> Vec<u8> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        panic!("odd number of digits");
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(byte).collect()
}
