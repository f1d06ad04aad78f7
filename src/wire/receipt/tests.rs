use proptest::prelude::*;

use super::*;

fn key() -> HmacKey {
    HmacKey::new([7; 32]).unwrap()
}

fn receipt(text: &str) -> Receipt {
    Receipt {
        status: Status::Failed,
        knock: KnockId([1, 2, 3, 4, 5, 6, 7, 8]),
        server_time: 1_795_219_667,
        lease_seconds: 3600,
        source: "192.0.2.7".parse().unwrap(),
        text: text.into(),
    }
}

#[test]
fn a_receipt_is_what_others_compute_from_the_same_keys() {
    let sealed = receipt("rc=3").seal(&key(), &[9; 32], [5; 12]);
    let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

#[test]
fn it_opens_for_its_own_knock_and_key_alone() {
    let sealed = receipt("hello").seal(&key(), &[9; 32], [5; 12]);
    assert_eq!(Receipt::open(&sealed, &key(), &[9; 32]), Ok(receipt("hello")));
    assert_eq!(Receipt::open(&sealed, &key(), &[8; 32]), Err(BadReceipt), "another knock's");
    assert_eq!(Receipt::open(&sealed, &HmacKey::new([6; 32]).unwrap(), &[9; 32]), Err(BadReceipt));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(Receipt::open(&changed, &key(), &[9; 32]), Err(BadReceipt), "byte {at}");
        assert_eq!(Receipt::open(&sealed[..at], &key(), &[9; 32]), Err(BadReceipt), "cut at {at}");
    }
}

#[test]
fn the_longest_is_as_long_as_the_shortest_stamped_datagram() {
    let long = "\u{e9}".repeat(200);
    let sealed = receipt(&format!("a{long}")).seal(&key(), &[9; 32], [5; 12]);
    let opened = Receipt::open(&sealed, &key(), &[9; 32]).unwrap();
    assert_eq!(opened.text.len(), 219, "cut between two characters");
    assert_eq!(receipt(&long).seal(&key(), &[9; 32], [5; 12]).len(), 288);
    assert_eq!(RECEIPT_MAX, 256 + crate::wire::stamp::STAMP_LEN);
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        status in 0_usize..6,
        (server_time, lease_seconds) in any::<(u32, u32)>(),
        source in any::<IpAddr>(),
        text in prop_oneof!["\\PC{0,55}".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..=TEXT_MAX)],
        nonce in any::<[u8; 12]>(),
    ) {
        let source = source.to_canonical();
        let status = Status::ALL[status];
        let receipt = Receipt { status, server_time, lease_seconds, source, text, ..receipt("") };
        let sealed = receipt.seal(&key(), &[9; 32], nonce);
        prop_assert!(sealed.len() <= RECEIPT_MAX);
        prop_assert_eq!(Receipt::open(&sealed, &key(), &[9; 32]), Ok(receipt));
    }

    #[test]
    fn any_plaintext_is_a_receipt_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..260)) {
        let framed = [&[VERSION], &bytes[..]].concat();
        if let Ok(receipt) = Receipt::parse(&framed) {
            prop_assert_eq!(receipt.plaintext(), framed);
        }
    }
}

/// HKDF, ChaCha20 and Poly1305 as RFC 5869 and RFC 8439 have them, written down in Python.
const GOLDEN: &str = "534c5231050505050505050505050505d34b3c67c819f9f437ceee51f5ade53a59178b88a83ceb57106b482e8c93eda4aac0cbb32e1ae22ea956d22b59d4c39bb74413928a0d4169";
