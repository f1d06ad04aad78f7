//! The datagrams that real siglatch v1 clients sent, and the keys to them.

use std::sync::OnceLock;

use serde_json::Value;

use crate::wire::{HmacKey, PrivateKey, ServerId};

/// Of `tests/vectors`.
pub(super) struct Recorded {
    pub(super) private_key: PrivateKey,
    pub(super) hmac_key: HmacKey,
    pub(super) datagrams: Vec<Vec<u8>>,
}

pub(super) const SERVER: ServerId = ServerId([7; 16]);

pub(super) fn recorded() -> &'static Recorded {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let vectors = include_str!("../../tests/vectors/siglatch-v1.json");
        let vectors: Value = serde_json::from_str(vectors).expect("the vectors are JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let datagrams = vectors["datagrams"].as_array().expect("a list");
        Recorded {
            private_key: PrivateKey::from_pem(&text(&vectors["private_key_pem"])).expect("a key"),
            hmac_key: HmacKey::parse(text(&vectors["hmac_key_hex"]).as_bytes()).expect("a key"),
            datagrams: datagrams.iter().map(|datagram| unhex(&text(&datagram["datagram_hex"]))).collect(),
        }
    })
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex digits"))
        .collect()
}
