//! The specification: its vectors are what the library computes, and a client that was written after it knocks the daemon
//! (tests/daemon/documents.rs).

use serde_json::Value;
use siglatch::wire::enrol::{EnrolSecret, Exchanged};
use siglatch::wire::receipt::Receipt;
use siglatch::wire::{Binding, HmacKey, Packet, ServerId, UserId, mac};

use crate::page::Page;
use crate::read;

fn vectors(name: &str) -> Value {
    serde_json::from_str(&read(&format!("tests/vectors/{name}.json"))).unwrap()
}

fn unhex(digits: &str) -> Vec<u8> {
    let bytes = digits.as_bytes().chunks(2);
    bytes.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_vectors_of_the_specification_are_what_the_library_computes() {
    let (wire, recorded) = (vectors("wire"), vectors("siglatch-v1"));
    let text = |key: &str| wire.pointer(&format!("/{key}")).and_then(Value::as_str).unwrap().to_owned();
    let key = HmacKey::parse(text("hmac_key_hex").as_bytes()).unwrap();
    let server = ServerId(unhex(&text("server_id_hex")).try_into().unwrap());
    let datagrams = recorded["datagrams"].as_array().unwrap();
    let ascii = datagrams.iter().find(|datagram| datagram["name"] == "ascii").unwrap();
    let plain = unhex(ascii["decrypted_hex"].as_str().unwrap());
    let packet = Packet::decode(&plain).unwrap();
    let source = |name: &str| Binding::Source(server, text(name).parse().unwrap());
    let bindings = [
        ("hmac_plain_hex", Binding::None),
        ("hmac_server_hex", Binding::Server(server)),
        ("hmac_source_ipv4_hex", source("source_ipv4")),
        ("hmac_source_ipv6_hex", source("source_ipv6")),
    ];
    for (name, binding) in bindings {
        assert_eq!(mac::tag(&key, &packet.signed, binding)[..], unhex(&text(name)), "{name}");
    }

    let hmac = unhex(&text("hmac_server_hex")).try_into().unwrap();
    let datagram = unhex(&text("receipt/datagram_hex"));
    let receipt = Receipt::open(&datagram, &key, &hmac).unwrap();
    assert_eq!((receipt.lease_seconds, &*receipt.words()), (3600, "ssh open"));
    let nonce = unhex(&text("receipt/nonce_hex")).try_into().unwrap();
    assert_eq!(receipt.seal(&key, &hmac, nonce), datagram);

    let (e, k) = (EnrolSecret::new([1; 32]), EnrolSecret::new([2; 32]));
    let of = Exchanged { key: &key, server, user: UserId(1000) };
    assert_eq!(e.public().to_string(), text("enrol/e_public_hex"));
    assert_eq!(k.public().to_string(), text("enrol/k_public_hex"));
    let new = e.at_client(k.public(), of).unwrap();
    assert_eq!(new.bytes()[..], unhex(&text("enrol/new_key_hex")));
}

#[test]
fn the_page_shows_the_vectors_that_are_in_the_files() {
    let files: String = ["wire", "siglatch-v1", "stamp"].map(|name| vectors(name).to_string()).concat();
    let page = Page::parse(&read("docs/wire.md"));
    let mut values = 0;
    for row in page.rows() {
        let value = row.last().unwrap().trim_matches('`');
        if value.len() >= 16 && value.chars().all(|c| c.is_ascii_hexdigit()) {
            assert!(files.contains(value), "{row:?}");
            values += 1;
        }
    }
    assert!(values > 12, "only {values} values");
}
